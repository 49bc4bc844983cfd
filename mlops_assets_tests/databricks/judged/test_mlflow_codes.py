"""The error codes that MLflow's own stores and clients know, held against those that ours tell apart.

MLflow's sources are the witness: what its Unity Catalog store, its client and its `register_model` compare with, and
what its REST layer can hand on.
"""

from __future__ import annotations

import ast
from pathlib import Path

import mlflow
import pytest
from mlflow.exceptions import MlflowException, RestException
from mlflow.protos import databricks_pb2

from mlops_assets.tracking.error_codes import exists_already, is_missing

STORES = ("tracking/_model_registry", "store/_unity_catalog/registry", "store/model_registry")
EXISTS = {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"}
MISSING = {"RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"}
pytestmark = pytest.mark.proof  # reads MLflow's sources


def named(folder: str) -> set[str]:
    """Return the error codes that the sources of a folder name."""
    known = set(databricks_pb2.ErrorCode.keys())
    files = (Path(mlflow.__file__).parent / folder).glob("*.py")
    return {
        node.id
        for file in files
        for node in ast.walk(ast.parse(file.read_text("utf-8")))
        if isinstance(node, ast.Name) and node.id in known
    }


def test_each_code_for_what_is_there_or_missing_is_told_apart():
    found = set().union(*map(named, STORES))
    assert {"RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS", "RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"} <= found
    like_these = {code for code in found if "EXIST" in code or "FOUND" in code}
    assert like_these == EXISTS | MISSING, "MLflow names a code that ours does not"


@pytest.mark.parametrize("code", sorted(databricks_pb2.ErrorCode.keys()))
def test_ours_reads_every_code_of_mlflow(code: str):
    error = MlflowException("x", error_code=databricks_pb2.ErrorCode.Value(code))
    assert exists_already(error) == (code in EXISTS)
    assert is_missing(error) == (code in MISSING)


@pytest.mark.parametrize("code", sorted(EXISTS | MISSING))
def test_a_code_that_came_over_the_wire_reads_the_same(code: str):
    error = RestException({"error_code": code, "message": "x"})
    assert exists_already(error) == (code in EXISTS)
    assert is_missing(error) == (code in MISSING)
