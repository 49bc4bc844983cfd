"""What a data set promises, and whether a row keeps it.

What belongs here: the contract, the difference between two of them, reading values as its types, judging rows by it.
What does not: loading rows (`ingest`).
"""
