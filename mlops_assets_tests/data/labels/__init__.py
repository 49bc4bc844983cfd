"""Tests of `mlops_assets.data.labels`."""
