"""Thin Dagster shells, one file per stage; the science is in the pure rooms."""
