"""Tests of `mlops_assets.tracking`."""
