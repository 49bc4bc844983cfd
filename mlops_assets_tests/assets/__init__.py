"""Tests of the asset shells, on real Spark, Delta and MLflow."""
