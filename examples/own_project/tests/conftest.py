"""Switches the test kit on; its fixtures start with `mlops_`."""

pytest_plugins = ["mlops_assets.testing"]
