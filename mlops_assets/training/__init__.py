"""From pinned sets to a model: space, search, engines, refit, and what MLflow is told. Knows no Dagster.

What belongs here: whatever fits a booster or decides which one is fitted. What does not: figures of scores
(`evaluation`), MLflow's client (`tracking`), versions and aliases (`registry`).
"""
