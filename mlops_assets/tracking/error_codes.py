"""What MLflow's error codes say, whichever store answers.

What belongs here: groups of codes that mean the same. What does not: what follows from an error.

MLflow's own stores answer `RESOURCE_ALREADY_EXISTS` and `RESOURCE_DOES_NOT_EXIST`; Unity Catalog answers
`ALREADY_EXISTS` and `NOT_FOUND` as well. MLflow's `register_model` accepts both
(`mlflow/tracking/_model_registry/fluent.py`, 3.17).
"""

from __future__ import annotations

from typing import Final

from mlflow.exceptions import MlflowException

EXISTS: Final = frozenset({"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"})
MISSING: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"})


def exists_already(error: MlflowException) -> bool:
    """Return whether something could not be created because it exists."""
    return error.error_code in EXISTS


def is_missing(error: MlflowException) -> bool:
    """Return whether something that was asked for does not exist."""
    return error.error_code in MISSING
