"""Tests of `mlops_assets.data.contract`."""
