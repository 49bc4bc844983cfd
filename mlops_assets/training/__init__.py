"""From pinned sets to a model: space, search, engines, refit, and the record in MLflow. Dagster-free.

What belongs here: fitting a booster, and deciding which one to fit. What does not: metrics of scores (`evaluation`),
MLflow's client (`tracking`), versions and aliases (`registry`).
"""
