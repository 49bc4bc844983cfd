"""Where transactions come from: a generator, files, OpenML, a Delta table of someone else.

What belongs here: from a location to batches of rows. What does not: contracts (`contract`), Spark, Dagster.
"""
