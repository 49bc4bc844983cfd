"""A pytest plugin for tests of assets; switch it on with `pytest_plugins = ["mlops_assets.testing"]`.

It is no entry point: pytest would import it in every test run of the environment, also of projects that don't use it.
The names of all fixtures start with `mlops_`. A project's own fixture silently replaces a plugin's of the same name,
and `spark`, `settings` (pytest-django) or `instance` are names that a project or another plugin has already.

Importing this package starts nothing, and imports neither pyspark nor MLflow; the fixtures do. It needs pytest, which
only the extra `mlops_assets[testing]` brings. PYTEST_DONT_REWRITE: there is no assert here, and pytest would warn if a
`conftest.py` imported from this package before the plugin is loaded.
"""

from mlops_assets.testing.fixtures import (
    mlops_deployment,
    mlops_empty_mlflow,
    mlops_instance,
    mlops_lakehouse,
    mlops_load,
    mlops_resources,
    mlops_spark,
    mlops_spark_resource,
    mlops_tracking,
)

__all__ = [
    "mlops_deployment",
    "mlops_empty_mlflow",
    "mlops_instance",
    "mlops_lakehouse",
    "mlops_load",
    "mlops_resources",
    "mlops_spark",
    "mlops_spark_resource",
    "mlops_tracking",
]
