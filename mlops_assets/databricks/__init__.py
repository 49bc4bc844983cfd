"""Databricks: clusters, libraries, staging and the launch of steps there.

What belongs here: everything that is about the platform. What does not: assets, data, training - this room knows
databricks-sdk and Dagster's launcher interfaces, and nothing of what is launched.
"""
