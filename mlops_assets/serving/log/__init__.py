"""The log of predictions: a row for each scored row, on disk before the answer goes out, then carried to a sink.

What belongs here: the row, segment files, carrying them on, sinks. What does not: requests and answers.
"""
