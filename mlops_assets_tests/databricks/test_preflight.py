"""The preflight: what goes together passes, each mismatch that breaks is one clear error."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from importlib import metadata

import pytest

from mlops_assets.databricks.libraries import cluster_pins
from mlops_assets.databricks.preflight import (
    Versions,
    compare,
    local_versions,
    require_compatible,
    runtime_versions,
)
from mlops_assets.databricks.runtimes import RUNTIMES, Runtime
from mlops_assets.errors import SettingsError

HERE = Versions(
    python="3.12.7",
    dagster="1.13.27",
    pydantic="2.14.3",
    spark="4.1.1",
    packages={"numpy": "2.4.6", "hyperopt": "0.3.0", "pillow": "13.0.0"},
)


def levels(remote: Versions, *, only_data: bool = True) -> dict[str, str]:
    return {finding.subject: finding.level for finding in compare(HERE, remote, only_data=only_data)}


def test_the_same_on_both_sides_is_nothing_to_report():
    assert compare(HERE, HERE) == []
    assert require_compatible(HERE, HERE) == []


@pytest.mark.parametrize(
    ("difference", "expected"),
    [
        ({"python": "3.12"}, {}),
        ({"python": "3.11.9"}, {"python": "warning"}),
        ({"python": "3.10.12"}, {"python": "error"}),
        ({"dagster": "1.13.28"}, {"dagster": "error"}),
        ({"dagster": ""}, {"dagster": "error"}),
        ({"pydantic": "2.14.9"}, {}),
        ({"pydantic": "2.10.6"}, {}),
        ({"pydantic": "1.10.2"}, {"pydantic": "error"}),
        ({"pydantic": ""}, {"pydantic": "error"}),
        ({"spark": "4.1.0"}, {}),
        ({"spark": "4.0.0"}, {"spark": "warning"}),
        ({"spark": "4.2.0"}, {"spark": "warning"}),
        ({"spark": "3.5.2"}, {"spark": "error"}),
        ({"spark": ""}, {"spark": "error"}),
        ({"packages": {"numpy": "2.4.6", "hyperopt": "0.3.0", "pillow": "11.1.0"}}, {}),
        ({"packages": {"numpy": "2.1.3", "hyperopt": "0.3.0", "pillow": "13.0.0"}}, {"numpy": "warning"}),
        ({"packages": {"numpy": "1.26.4", "hyperopt": "0.3.0", "pillow": "13.0.0"}}, {"numpy": "error"}),
        ({"packages": {"numpy": "2.4.6", "hyperopt": "0.2.7", "pillow": "13.0.0"}}, {"hyperopt": "error"}),
        ({"packages": {"numpy": "2.4.6", "pillow": "13.0.0"}}, {"hyperopt": "error"}),
    ],
)
def test_each_difference(difference: dict[str, object], expected: dict[str, str]):
    assert levels(replace(HERE, **difference)) == expected  # type: ignore[arg-type]


def test_pickled_functions_do_not_cross_minor_versions_of_python():
    assert levels(replace(HERE, python="3.11.9"), only_data=False) == {"python": "error"}
    assert levels(replace(HERE, python="3.12.1"), only_data=False) == {}


def test_all_errors_come_in_one_text_with_what_to_do():
    remote = replace(HERE, dagster="1.12.0", packages={}, python="3.11.1")
    with pytest.raises(SettingsError) as refused:
        require_compatible(HERE, remote, where="cluster 0101-1")
    text = str(refused.value)
    assert "dagster: 1.12.0 on the cluster, 1.13.27 here" in text
    assert "hyperopt: not installed on the cluster" in text
    assert "[cluster 0101-1]" in text
    assert "18-ml" in text
    assert "python" not in text.partition("[")[0]  # a warning is no reason to refuse


def test_warnings_are_returned_to_be_shown():
    (warning,) = require_compatible(HERE, replace(HERE, spark="4.0.0"))
    assert str(warning) == "warning spark: 4.0.0 on the cluster; the tests ran on 4.1.1"


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_every_runtime_with_our_libraries_is_accepted(runtime: Runtime):
    here = local_versions()
    warnings = {finding.subject for finding in require_compatible(here, runtime_versions(runtime))}
    other_python = runtime.python != ".".join(here.python.split(".")[:2])
    other_spark = runtime.spark.split(".")[:2] != here.spark.split(".")[:2]
    kept = {"numpy", "pandas", "pyarrow"} - set(cluster_pins(runtime))
    assert warnings == kept | ({"python"} if other_python else set()) | ({"spark"} if other_spark else set())


def test_this_side_is_what_is_installed():
    here = local_versions()
    assert here.dagster == metadata.version("dagster")
    assert here.pydantic == metadata.version("pydantic")
    assert here.spark == metadata.version("pyspark")
    assert here.packages["hyperopt"] == metadata.version("hyperopt")
    assert "pyspark" not in here.packages


def test_the_other_side_looks_at_the_names_it_is_told_and_at_its_running_spark():
    there = local_versions(["dagster", "pydantic", "numpy", "no-such-distribution"], spark="4.1.0")
    assert there.spark == "4.1.0"
    assert there.packages == {"numpy": metadata.version("numpy")}


def test_versions_travel_as_json():
    assert Versions(**json.loads(json.dumps(asdict(HERE)))) == HERE
