"""What loading a code location may import of this room stays light."""

from __future__ import annotations

import subprocess
import sys

_LIGHT = ("cluster", "credentials", "libraries", "permissions", "preflight", "profile", "runtimes")
_HEAVY = ("dagster", "databricks.sdk", "dagster_databricks", "pyspark", "mlflow", "pandas")


def test_the_models_need_neither_the_sdk_nor_dagster():
    code = (
        "import importlib, sys\n"
        f"for name in {_LIGHT!r}: importlib.import_module('mlops_assets.databricks.' + name)\n"
        f"print([name for name in {_HEAVY!r} if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout.strip() == "[]"
