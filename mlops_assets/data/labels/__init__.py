"""Labels: the ones that come later, and when a row's label counts.

What belongs here: rules on labels and their time. What does not: the table that keeps them (`lakehouse`).
"""
