"""Pure registry room: who may become champion, and why. Knows neither Dagster nor Databricks."""
