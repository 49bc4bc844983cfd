"""Tests of `mlops_assets.data.splits`."""
