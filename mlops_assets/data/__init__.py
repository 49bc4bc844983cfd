"""What rows mean: the contract, where rows come from, how they come in, their labels, the sets cut from them.

What belongs here: rules on rows. What does not: Dagster, MLflow, Databricks, commits to tables (`lakehouse`).

A rule that is needed on plain values and on Spark tables has two modules, and a test holds them to it:
- `x.py` decides on plain values and Arrow tables. It says what the rule means, and imports no pyspark.
- `x_frames.py` says the same as Spark column expressions, and says nothing about its meaning.
"""
