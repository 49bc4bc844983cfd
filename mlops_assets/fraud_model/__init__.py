"""A fraud model as Dagster's `Definitions`, from its spec; and what all models of a code location share."""
