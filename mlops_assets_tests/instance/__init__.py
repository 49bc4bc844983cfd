"""Tests of `mlops_assets.instance`."""
