"""The embedded Dagster instance: its folder, its configuration, its run launcher.

What belongs here: what keeps Dagster running on one machine. What does not: what runs in it.
"""
