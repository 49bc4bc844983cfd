"""Thin Dagster shells, one file per stage; the work itself is done in the Dagster-free rooms."""
