"""MLflow without the registry: the store, its runs and tags, throttling, provenance. Dagster-free.

What belongs here: calls of MLflow's client. What does not: aliases and versions (`registry`), training.
"""
