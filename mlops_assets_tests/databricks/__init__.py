"""Tests of the Databricks room."""
