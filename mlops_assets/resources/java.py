"""Checks that there is a Java for Spark, before Spark fails without saying why.

What belongs here: finding Java and its version. What does not: starting a JVM for work (`spark`, `delta_jars`).
`scripts/preflight.sh` makes the same check before there is any Python; a test holds both to the same answers.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from mlops_assets.errors import SettingsError

MINIMUM_JAVA = 17
_FIX = "install Java 17 or 21, or set JAVA_HOME to the folder of one"
# "17.0.15" and "22-ea" start with the major version, "1.8.0_392" (up to Java 8) has it second.
_VERSION = re.compile(r'version "(?P<full>(?:1\.)?(?P<major>\d+)[^"]*)"')
_ANSWER_SECONDS = 60.0


def require_java(java_home: str | None) -> int:
    """Return the major version of the Java that Spark is going to use.

    Args:
        java_home: JAVA_HOME as the process has it; None or empty looks for `java` in the PATH, as Spark does.

    Raises:
        SettingsError: There is no Java, it does not answer, or it is older than Spark 4 needs (17).
    """
    command = str(Path(java_home) / "bin" / "java") if java_home else shutil.which("java")
    where = f"JAVA_HOME={java_home}" if java_home else "PATH"
    if command is None:
        raise SettingsError("Spark needs Java 17 or 21, and there is none", where=where, fix=_FIX)
    try:
        answer = subprocess.run(
            [command, "-version"], capture_output=True, text=True, check=True, timeout=_ANSWER_SECONDS
        )
    except (OSError, subprocess.SubprocessError):
        # macOS ships a /usr/bin/java that only says where to get one: so the file exists, and there is no Java.
        raise SettingsError("Spark needs Java 17 or 21, and there is none that works", where=where, fix=_FIX) from None
    version = _VERSION.search(answer.stderr + answer.stdout)
    if version is None:
        raise SettingsError(f"`{command} -version` prints no version", where=where, fix=_FIX)
    if int(version["major"]) < MINIMUM_JAVA:
        raise SettingsError(f"Spark needs Java 17 or 21, and {command} is {version['full']}", where=where, fix=_FIX)
    return int(version["major"])
