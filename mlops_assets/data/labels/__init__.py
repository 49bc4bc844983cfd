"""Labels: the ones that come late, and when a row's label counts.

What belongs here: rules on labels and their timing. What does not: the table that stores them (`lakehouse`).
"""
