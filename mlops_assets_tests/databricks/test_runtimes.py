"""The table of runtimes is consistent in itself; its figures are facts about images that nobody has here."""

from __future__ import annotations

import re
from importlib import resources

import pytest
from packaging.utils import canonicalize_name
from packaging.version import Version

from mlops_assets.databricks.runtimes import RUNTIMES, Runtime, runtime
from mlops_assets.errors import SettingsError


def test_the_supported_ones():
    assert set(RUNTIMES) == {"17.3-lts", "17.3-lts-ml", "18", "18-ml", "serverless-5"}
    assert all(key == made.key for key, made in RUNTIMES.items())


@pytest.mark.parametrize("made", RUNTIMES.values(), ids=RUNTIMES)
def test_each_names_itself_and_its_python(made: Runtime):
    assert runtime(made.key) is made
    assert made.names(made.spark_version) or made.environment_version
    assert made.python == "3.12"
    assert made.spark.split(".")[:2] == {"17": ["4", "0"], "18": ["4", "1"], "se": ["4", "1"]}[made.key[:2]]


@pytest.mark.parametrize("made", RUNTIMES.values(), ids=RUNTIMES)
def test_packages_are_ours_under_normalized_names(made: Runtime):
    assert all(name == canonicalize_name(name) for name in made.packages)
    assert {"numpy", "pandas", "pyarrow", "pydantic", "mlflow-skinny", "databricks-sdk"} <= set(made.packages)
    assert all(Version(version) for version in made.packages.values())
    # Installed everywhere: no runtime has it.
    assert "hyperopt" not in made.packages


@pytest.mark.parametrize("key", RUNTIMES)
def test_where_and_when_the_packages_were_read_is_said(key: str):
    head = (resources.files("mlops_assets.databricks") / "constraints" / f"{key}.txt").read_text("utf-8")[:600]
    version = RUNTIMES[key].environment_version
    place = f"serverless/serverless-v{version}" if version else f"dbr/{RUNTIMES[key].spark_version}"
    assert f"python/{place}/constraints.txt, at commit " in head
    assert re.search(r"Read on \d+ \w+ 20\d\d", head)


def test_only_images_for_machine_learning_have_xgboost():
    for made in RUNTIMES.values():
        assert ("xgboost" in made.packages) == made.is_ml


@pytest.mark.parametrize(
    ("key", "spark_version", "is_build"),
    [
        ("18", "18.x-scala2.13", True),
        ("18", "18.0.x-scala2.13", True),
        ("18", "18.1.x-photon-scala2.13", True),
        ("18", "18.0.x-cpu-ml-scala2.13", False),
        ("18-ml", "18.0.x-cpu-ml-scala2.13", True),
        ("18-ml", "18.x-gpu-ml-scala2.13", True),
        ("18-ml", "18.x-scala2.13", False),
        ("17.3-lts", "17.3.x-scala2.13", True),
        ("17.3-lts", "17x3.x-scala2.13", False),
        ("17.3-lts", "17.3.x-scala2.12", False),  # Spark 4 has no Scala 2.12
        ("17.3-lts", "16.4.x-scala2.13", False),
        ("18", "181.x-scala2.13", False),
        ("18", "latest", False),
    ],
)
def test_builds_of_a_runtime(key: str, spark_version: str, is_build: bool):
    assert RUNTIMES[key].names(spark_version) is is_build


@pytest.mark.parametrize("key", ["11.1", "16.4-lts", "16.4-lts-ml", "19"])
def test_an_unsupported_one_is_refused_with_those_that_there_are(key: str):
    with pytest.raises(SettingsError, match=rf"'{re.escape(key)}' is not a supported.*17\.3-lts-ml.*18-ml"):
        runtime(key)
