"""Tests of `mlops_assets.diagnostics`."""
