from __future__ import annotations

import pyarrow as pa
import pytest

from mlops_assets.data.sources.base import content_hash, lower_case_columns
from mlops_assets.errors import SchemaMismatchError, SourceError


def test_names_are_lower_cased_in_order_and_metadata_goes():
    table = pa.table({"Time": [1], "V1": ["a"], "Class": [0]}).replace_schema_metadata({"pandas": "{}"})

    lowered = lower_case_columns(table, where="x")

    assert lowered.column_names == ["time", "v1", "class"]
    assert lowered.schema.metadata is None
    assert lowered.to_pydict() == {"time": [1], "v1": ["a"], "class": [0]}


def test_names_that_differ_by_case_are_refused():
    with pytest.raises(SchemaMismatchError, match=r"differ only by case: Amount, amount \[x\]"):
        lower_case_columns(pa.table({"amount": [1], "v1": [1], "Amount": [2]}), where="x")


def test_the_same_name_twice_is_refused():
    table = pa.Table.from_arrays([pa.array([1]), pa.array([2]), pa.array([3])], names=["a", "b", "a"])

    with pytest.raises(SourceError, match="duplicate columns: a"):
        lower_case_columns(table, where="x")


@pytest.mark.parametrize("name", ["", "  "])
def test_a_column_without_a_name_is_refused(name: str):
    with pytest.raises(SourceError, match=r"column 2 of 2 has no name.*index=False"):
        lower_case_columns(pa.table({"a": [1], name: [2]}), where="x")


def test_the_hash_is_of_the_content():
    assert content_hash(b"a,b\n1,2\n") == content_hash(b"a,b\n" + b"1,2\n")
    assert content_hash(b"a,b\n1,2\n") != content_hash(b"a,b\n1,3\n")
