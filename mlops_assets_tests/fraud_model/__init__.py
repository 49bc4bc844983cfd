"""Tests of `mlops_assets.fraud_model`."""
