"""Tests of `mlops_assets.evaluation.plots`."""
