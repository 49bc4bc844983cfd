"""Pure data room: contract, sources, validation, splitting. Knows neither Dagster nor Databricks."""
