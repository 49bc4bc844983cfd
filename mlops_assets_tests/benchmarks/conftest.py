"""A home for reports, sessions that lend out the shared one, and a way to run a benchmark as its user does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks._sessions import Sessions

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

CHECKOUT = Path(__file__).resolve().parents[2]
Run = Callable[..., dict[str, Any]]


@pytest.fixture
def sessions(spark: SparkSession) -> Sessions:
    """Sessions that are not fresh: a benchmark's figures mean nothing here, its way from start to end does."""

    @contextmanager
    def lend(master: str) -> Iterator[SparkSession]:
        yield spark

    return lend


@pytest.fixture
def home(tmp_path: Path, shared_home: Path) -> Path:
    """An installation of its own with the jars that are there already."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "jars").symlink_to(shared_home / "jars")
    return home


@pytest.fixture
def run(home: Path) -> Run:
    """Runs a benchmark as `make bench` does, with options, and returns the document that it wrote."""

    def run(name: str, *options: str) -> dict[str, Any]:
        answer = subprocess.run(
            [sys.executable, "-m", f"benchmarks.{name}", *options],
            cwd=CHECKOUT,
            env={**os.environ, "MLOPS_HOME": str(home)},
            capture_output=True,
            text=True,
            check=False,
            timeout=850,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        document: dict[str, Any] = json.loads((home / "bench" / f"{name}.json").read_text("utf-8"))
        assert document["name"] == name
        for label, found in document["ratios"].items():
            assert label in answer.stdout
            assert found["low"] <= found["ratio"] <= found["high"]
        first = next(iter(document["ratios"].values()))
        assert document["ratio"] == first["ratio"]
        return document

    return run
