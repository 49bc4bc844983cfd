"""MLflow without the registry's rules: the store, its runs and tags, throttling, provenance. Knows no Dagster.

What belongs here: calls of MLflow's client. What does not: aliases and versions (`registry`), what is trained.
"""
