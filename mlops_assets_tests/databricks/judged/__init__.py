"""Proofs in which others' code judges ours: newer SDKs, dagster-databricks' own tests, MLflow's and Unity Catalog's."""
