"""Databricks: clusters, libraries, staging and the launch of steps there.

What belongs here: everything about the platform. What does not: assets, data, training. This room knows databricks-sdk
and Dagster's launcher interfaces, and nothing about what is launched.
"""
