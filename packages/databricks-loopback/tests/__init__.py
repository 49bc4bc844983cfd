"""Tests of the loopback workspace."""
