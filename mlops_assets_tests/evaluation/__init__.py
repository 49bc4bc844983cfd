"""Tests of `mlops_assets.evaluation`."""
