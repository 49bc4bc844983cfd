"""Tables that many tests begin with, made once a session and copied: a copy takes milliseconds, a load seconds.

What belongs here: what more than one file of this room begins with. What does not: what a test changes.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from mlops_assets.definitions import build_resources
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.spark import SparkResource
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import load, split


@pytest.fixture(scope="session")
def split_once(tmp_path_factory: pytest.TempPathFactory, spark_resource: SparkResource) -> Lakehouse:
    """Tables of the small synthetic source, loaded and cut."""
    made: Lakehouse = build_resources(Settings(home=tmp_path_factory.mktemp("split_once")))["lakehouse"].open()
    lakehouse = replace(made, spark=lambda: spark_resource.session)
    assert load(lakehouse).failure is None
    assert split(lakehouse).failure is None
    return lakehouse


@pytest.fixture
def prepared(split_once: Lakehouse, lakehouse: Lakehouse) -> Lakehouse:
    """Tables of the test's own, loaded and cut. Delta's log names files from the table's folder, so a copy is whole."""
    shutil.copytree(split_once.root, lakehouse.root, dirs_exist_ok=True)
    assert Path(lakehouse.root).is_dir()
    return lakehouse
