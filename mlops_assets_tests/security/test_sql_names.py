"""A name in SQL is a name, whatever it holds."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

import mlops_assets
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.tables import PathTables
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec

HOSTILE = ("x`; DROP TABLE y; --", "x`.`y", "x y", "x;y", "x\ny", "../x", "x'y", "ｘ")  # noqa: RUF001 - looks like an x


@given(parts=st.lists(st.text(min_size=1), min_size=1, max_size=3))
def test_a_quoted_name_is_read_back_as_it_was(parts: list[str]):
    """As Spark's grammar reads it: within backticks, two of them are one."""
    read = [part.replace("``", "`") for part in re.findall(r"`((?:[^`]|``)*)`(?:\.|$)", quoted(*parts), re.DOTALL)]

    assert read == parts


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_name_is_refused_where_it_is_given(tmp_path: Path, name: str):
    spark = SparkResource(home=str(tmp_path))
    with pytest.raises(ValidationError, match="letters, digits"):
        LakehouseResource(spark=spark, root="/x", catalog=name)
    with pytest.raises(ValidationError, match="letters, digits"):
        LakehouseResource(spark=spark, root="/x", catalog="main", schema_name=name)
    with pytest.raises(ValidationError, match="lower-case letters"):
        Settings(database=name)
    with pytest.raises(ValidationError, match="lower-case letters"):
        FraudModelSpec(contract=load_contract("creditcard"), database=name)


def test_ordinary_names_are_taken(tmp_path: Path):
    resource = LakehouseResource(
        spark=SparkResource(home=str(tmp_path)), root="/x", catalog="main-eu", schema_name="Fraud_1"
    )

    assert resource.catalog == "main-eu"


def test_a_folder_with_a_backtick_is_one_name(tmp_path: Path):
    tables = PathTables(f"{tmp_path}/a`; DROP TABLE b; --")

    assert tables.sql_name("raw") == f"delta.`{tmp_path}/a``; DROP TABLE b; --/raw`"


def quoted_by_hand(text: str) -> list[str]:
    """Return the places where SQL's own marks of a name stand around a value: after a name of a table, or a point."""
    return re.findall(r"[.]`\{\w+\}`|delta\.`\{", text)


def test_names_are_quoted_in_one_place():
    package = Path(mlops_assets.__file__).parent / "lakehouse"

    assert {path.name: found for path in package.glob("*.py") if (found := quoted_by_hand(path.read_text()))} == {}
    assert quoted_by_hand('f"old.`{key}` = new.`{key}`"'), "the control"
