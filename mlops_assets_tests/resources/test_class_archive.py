"""The archive of classes: Java itself says whether it takes one."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pyspark
import pytest

from mlops_assets.resources.class_archive import find_archive, make_archive, use_options
from mlops_assets.resources.delta_jars import ensure_delta_jars

JAVA_HOME = os.environ.get("JAVA_HOME")
JAVA = str(Path(JAVA_HOME) / "bin" / "java") if JAVA_HOME else "java"


@pytest.fixture(scope="module")
def archive(shared_home: Path) -> Path:
    """The machine's archive, as the set-up makes it."""
    return make_archive(shared_home, JAVA_HOME)


def classes_from_the_archive(options: str, class_path: str) -> int:
    """Return how many classes a JVM that starts Spark's launcher takes from an archive of ours, by Java's own log."""
    command = [JAVA, *options.split(), "-Xlog:class+load", "-cp", class_path, "org.apache.spark.deploy.SparkSubmit"]
    started = subprocess.run([*command, "--version"], capture_output=True, text=True, check=True, timeout=120)
    return len(re.findall(r"source: shared objects file \(top\)", started.stdout))


def java_version(options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Ask Java for its version, in a folder for the log of a crash."""
    command = [JAVA, *options.split(), "-XX:-CreateCoredumpOnCrash", "-version"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=120)


def class_path_of(home: Path) -> str:
    """Return the class path as Spark's launcher makes it: Delta, the (missing) folder of settings, Spark's jars."""
    spark = Path(pyspark.__file__).parent
    first = [str(jar) for jar in ensure_delta_jars((home / "jars").resolve())]
    (slf4j,) = spark.glob("jars/slf4j-api-*.jar")
    return os.pathsep.join([*first, str(spark / "conf"), str(slf4j), f"{spark}/jars/*"])


def test_java_takes_classes_from_the_archive(archive: Path, shared_home: Path):
    assert classes_from_the_archive(use_options(archive), class_path_of(shared_home)) > 500


def test_without_an_archive_no_option_is_given_and_no_class_is_taken(shared_home: Path):
    assert use_options(None) == ""
    assert classes_from_the_archive("", class_path_of(shared_home)) == 0


def test_an_archive_that_does_not_fit_is_ignored_in_silence(archive: Path, shared_home: Path, tmp_path: Path):
    """With other jars, or with a byte changed."""
    changed = tmp_path / archive.name
    content = bytearray(archive.read_bytes())
    content[len(content) // 2] ^= 0xFF
    changed.write_bytes(content)

    assert classes_from_the_archive(use_options(archive), f"{tmp_path}:{class_path_of(shared_home)}") == 0
    assert classes_from_the_archive(use_options(changed), class_path_of(shared_home)) == 0
    started = subprocess.run(
        [JAVA, *use_options(changed).split(), "-version"], capture_output=True, text=True, check=False
    )
    assert (started.returncode, started.stdout) == (0, "")
    assert "archive" not in started.stderr


def test_an_archive_that_was_cut_short_is_not_given_to_java(archive: Path, shared_home: Path, tmp_path: Path):
    """Java aborts on it."""
    jars = ensure_delta_jars((shared_home / "jars").resolve())
    short = tmp_path / archive.name
    shutil.copy(archive, short)
    assert find_archive(tmp_path, jars, JAVA_HOME) == short

    os.truncate(short, archive.stat().st_size // 2)

    assert (
        subprocess.run([JAVA, *use_options(short).split(), "-version"], capture_output=True, check=False).returncode
        != 0
    )
    assert find_archive(tmp_path, jars, JAVA_HOME) is None


def test_another_java_or_other_jars_have_no_use_for_it(archive: Path, shared_home: Path, tmp_path: Path):
    jars = ensure_delta_jars((shared_home / "jars").resolve())

    assert find_archive(archive.parent, jars, JAVA_HOME) == archive
    assert find_archive(archive.parent, jars[:1], JAVA_HOME) is None
    assert find_archive(archive.parent, jars, str(tmp_path)) is None


def test_what_is_there_is_not_made_again(archive: Path, shared_home: Path):
    made = archive.stat().st_mtime_ns

    assert make_archive(shared_home, JAVA_HOME) == archive
    assert archive.stat().st_mtime_ns == made
