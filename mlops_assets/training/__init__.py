"""Pure training room: search space, objective, search, evaluation, plots. Knows neither Dagster nor Databricks."""
