"""Dagster resources: Spark, the lakehouse, experiment tracking, sources. They know the pure rooms, not the assets."""
