"""Tests of the set-up scripts, which run before anything is installed."""
