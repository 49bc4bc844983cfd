"""The table of runtimes is consistent in itself; its figures are facts about images that nobody has here."""

from __future__ import annotations

import pytest
from packaging.version import Version

from mlops_assets.databricks.libraries import cluster_requirements
from mlops_assets.databricks.runtimes import RUNTIMES, Runtime, runtime
from mlops_assets.errors import SettingsError


def test_the_supported_ones():
    assert set(RUNTIMES) == {"16.4-lts", "16.4-lts-ml", "17.3-lts", "17.3-lts-ml", "18", "18-ml"}
    assert all(key == made.key for key, made in RUNTIMES.items())


@pytest.mark.parametrize("made", RUNTIMES.values(), ids=RUNTIMES)
def test_each_names_itself_and_its_python(made: Runtime):
    assert runtime(made.key) is made
    assert made.names(made.spark_version)
    assert made.python == "3.12"
    assert made.spark.split(".")[:2] == {"16": ["3", "5"], "17": ["4", "0"], "18": ["4", "1"]}[made.key[:2]]


@pytest.mark.parametrize("made", RUNTIMES.values(), ids=RUNTIMES)
def test_packages_are_ours_under_normalized_names(made: Runtime):
    ours = {*cluster_requirements(), "xgboost"}
    assert set(made.packages) <= ours
    assert all(Version(version) for version in made.packages.values())
    # Installed everywhere: 16.4 LTS ML has a patched 0.2.7, later runtimes have none.
    assert "hyperopt" not in made.packages


def test_only_images_for_machine_learning_have_xgboost_and_mlflow():
    for made in RUNTIMES.values():
        assert ("xgboost" in made.packages) == made.is_ml
        assert ("mlflow" in made.packages) == made.is_ml


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
        ("16.4-lts", "16.4.x-scala2.13", True),
        ("16.4-lts", "16x4.x-scala2.12", False),
        ("17.3-lts", "16.4.x-scala2.13", False),
        ("18", "181.x-scala2.13", False),
        ("18", "latest", False),
    ],
)
def test_builds_of_a_runtime(key: str, spark_version: str, is_build: bool):
    assert RUNTIMES[key].names(spark_version) is is_build


def test_an_unknown_one_is_refused_with_those_that_there_are():
    with pytest.raises(SettingsError, match=r"'11\.1' is not a supported.*17\.3-lts-ml.*18-ml"):
        runtime("11.1")
