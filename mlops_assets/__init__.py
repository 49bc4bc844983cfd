"""Fraud-model data and model assets on Dagster; start at `mlops_assets.definitions`."""

__version__ = "0.1.0"
