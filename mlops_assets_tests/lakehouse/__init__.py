"""Tests of `mlops_assets.lakehouse`."""
