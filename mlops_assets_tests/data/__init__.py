"""Tests of the data rooms."""
