"""What the set-up prepares so that Spark starts at once: the Delta jars, and the archive of Java's classes.

What belongs here: the command. What does not: how either is made (`delta_jars`, `class_archive`).

`python -m mlops_assets.resources.prepare_spark HOME [JAVA_HOME]` makes what is missing and says so; if nothing is
missing, it prints nothing. Without the jars there is no Spark, so it exits with 1 if they can't be fetched; the archive
only saves time.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from subprocess import TimeoutExpired

from mlops_assets.errors import PlatformError
from mlops_assets.processes import keep_files_private
from mlops_assets.resources.class_archive import find_archive, make_archive
from mlops_assets.resources.delta_jars import ensure_delta_jars, missing_jars


def prepare(home: Path, java_home: str | None) -> None:
    """Make what is missing.

    Args:
        home: MLOPS_HOME.
        java_home: JAVA_HOME of the process; None takes `java` from the PATH.

    Raises:
        StorageError: The jars can't be fetched, or their folder can't be used.
    """
    folder = (home / "jars").resolve()
    missing = missing_jars(folder)
    if missing:
        _say(f"Delta jars: fetching {len(missing)} into {folder} (once)")
    if find_archive(folder, ensure_delta_jars(folder), java_home) is not None:
        return
    _say("Spark: archiving Java's classes, so that it starts faster (once, about 20 s)")
    try:
        make_archive(home, java_home)
    except (PlatformError, OSError, TimeoutExpired) as error:
        sys.stderr.write(f"Spark: the class archive was not made, so each start takes a few seconds longer: {error}\n")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _main(arguments: list[str]) -> int:
    keep_files_private()
    if len(arguments) not in (1, 2):
        sys.stderr.write("usage: python -m mlops_assets.resources.prepare_spark HOME [JAVA_HOME]\n")
        return os.EX_USAGE
    try:
        prepare(Path(arguments[0]), "".join(arguments[1:]) or None)
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
