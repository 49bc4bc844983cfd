"""Environments of others' packages, made by uv for the time of the tests; they ask the package index."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parents[3]
UV = Path(sys.executable).with_name("uv")
# The newest; a version that has come out since is asked as well.
NEWEST_SDK = "databricks-sdk>=0.162"
MakeEnvironment = Callable[..., Path]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Return a function from requirements to the Python of an environment that has them and nothing of ours."""

    @cache
    def made(*requirements: str) -> Path:
        folder = tmp_path_factory.mktemp("environment")
        python = folder / "bin" / "python"
        commands: tuple[list[str], ...] = (
            ["venv", "--quiet", "--python", sys.executable, "--clear", str(folder)],
            ["pip", "install", "--quiet", "--upgrade", "--python", str(python), *requirements],
        )
        for command in commands:
            done = subprocess.run([UV, *command], capture_output=True, text=True, check=False, timeout=300)
            assert done.returncode == 0, done.stderr
        return python

    return made
