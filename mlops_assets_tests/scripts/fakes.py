"""Executables that answer as another Python or Java would, for a PATH made of one folder."""

from __future__ import annotations

import sys
from pathlib import Path


def executable(path: Path, script: str) -> Path:
    """Write a shell script that can be run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}\n", "utf-8")
    path.chmod(0o755)
    return path


def fake_python(path: Path, doctoring: str) -> Path:
    """Write a Python that runs what it is given by `-c`, after `doctoring` has changed what the code sees."""
    code = f"import sys; given = sys.argv[1:]; {doctoring}; exec(given[given.index('-c') + 1])"
    return executable(path, f'exec "{sys.executable}" -c "{code}" "$@"')


def fake_java(path: Path, version: str, *, first: str = "") -> Path:
    """Write a Java that says it is `version`, as the real one does on its standard error."""
    lines = [*([first] if first else []), f'openjdk version "{version}" 2024-01-16', "OpenJDK Runtime Environment"]
    return executable(path, "\n".join(f"echo '{line}' >&2" for line in lines))
