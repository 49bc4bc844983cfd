"""Where transactions come from: generated, files, OpenML. A source knows nothing of contracts, Spark or Dagster."""
