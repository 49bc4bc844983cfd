"""Launching: each demand against the loopback workspace, most of them without Spark."""
