"""Serving: a registered version answers over HTTP, and every answer is logged. Knows neither Dagster nor Spark.

What belongs here: requests, answers, the versions that are served, and the log of predictions. What does not: which
version is champion (`registry`), training, rows of tables (`data`).
"""
