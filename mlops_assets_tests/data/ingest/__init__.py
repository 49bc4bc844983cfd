"""Tests of `mlops_assets.data.ingest`."""
