"""Environments of others' packages, made by uv for the time of the tests; they ask the package index."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

UV = Path(sys.executable).with_name("uv")
MakeEnvironment = Callable[..., Path]


def maker(folders: pytest.TempPathFactory) -> MakeEnvironment:
    """Return a function from requirements to the Python of an environment that has them and nothing of ours."""

    @cache
    def made(*requirements: str) -> Path:
        folder = folders.mktemp("environment")
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
