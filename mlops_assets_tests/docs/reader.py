"""A reader of the documentation who does what it says, in a folder of their own.

What belongs here: the folder, and running one block after another in it. What does not: which blocks (`pages`).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from mlops_assets_tests.docs.pages import CHECKOUT, FAILS, FILE, Block

_SECONDS = 600
# What a make or a test run above this one has set must not reach the reader's commands.
_ABOVE = ("MLOPS_", "MAKE", "MFLAGS", "DAGSTER_", "PYTEST_", "VENV", "VIRTUAL_ENV", "DATABRICKS_")


@dataclass(frozen=True)
class Reader:
    """A checkout whose files are links, with the environment of the tests and a home of its own.

    Attributes:
        folder: The checkout's stand-in; what commands write stays in it.
    """

    folder: Path

    @classmethod
    def sit_down(cls, folder: Path, jars: Path) -> Reader:
        """Prepare the folder.

        Args:
            folder: It is created.
            jars: Delta jars that are there already.
        """
        folder.mkdir()
        for entry in CHECKOUT.iterdir():
            if entry.name == ".ci" or not entry.name.startswith((".", "dist")):
                (folder / entry.name).symlink_to(entry)
        (folder / ".venv").symlink_to(sys.prefix)
        (folder / ".mlops").mkdir()
        (folder / ".mlops" / "jars").symlink_to(jars)
        # The environment that the tests run in is set up, and must not be set up anew below them.
        make = folder / "bin" / "make"
        make.parent.mkdir()
        make.write_text(f'#!/bin/sh\nexec "{shutil.which("make")}" -o setup "$@"\n', encoding="utf-8")
        make.chmod(0o755)
        return cls(folder)

    def follow(self, block: Block) -> str:
        """Save a block, or run it; nothing for a block that is not for running.

        Returns:
            What it printed.

        Raises:
            AssertionError: It fails, or does not fail as the page says.
        """
        if block.kind == FILE:
            (self.folder / block.what).write_text(block.text, encoding="utf-8")
        if not block.runs:
            return ""
        program = [str(self.folder / ".venv" / "bin" / "python"), "-"]
        if block.language != "python":
            program = ["bash", "-euo", "pipefail", "-s"]
        done = subprocess.run(
            program,
            input=block.command,
            cwd=self.folder,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=_SECONDS,
        )
        fails = block.kind == FAILS
        expected = done.returncode != 0 and block.what in done.stdout if fails else done.returncode == 0
        assert expected, f"{block.where} ended with {done.returncode}:\n{block.command}\n{done.stdout[-4000:]}"
        return done.stdout

    def _environment(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(_ABOVE)}
        return {
            **kept,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "MLOPS_HOME": str(self.folder / ".mlops"),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
