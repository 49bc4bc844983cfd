"""The Delta library: tables, their versions and locks, loads, labels, maintenance. Dagster-free.

What belongs here: everything that commits to a Delta table or reads one. What does not: what rows mean (`data`).
"""
