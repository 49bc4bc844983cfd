"""The Delta jars of embedded Spark: resolved once, checked against `jars.lock`, then taken from a folder.

What belongs here: getting exactly the locked jars onto this machine. What does not: Spark's configuration (`spark`).
On Databricks nothing here is used: the runtime brings its own Delta.

Spark's own Ivy fetches them, so a mirror (`spark.jars.ivySettings` in spark-defaults.conf), a proxy or a local
repository that works for the user's other Spark jobs works here too, and no repository's address is in this project.
Asking Ivy in every session would cost 2 to 10 s each and need the network.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from mlops_assets.errors import StorageError

RESOLVE_SECONDS = 600.0
_SCRATCH = ".ivy-"
# What delta-spark 4.3 depends on only for Unity Catalog's managed tables; without this line Ivy fetches 31 more jars
# (86 MB), among them a second Hadoop client.
_NOT_NEEDED = "io.delta:delta-kernel*,io.unitycatalog:*"
# Ivy's own reasons, the most specific first; the rest of its report is left out.
_REASONS = (
    re.compile(r"Server access error at url \S+ \((?:[\w.]+: )?(?P<why>[^)\n]+)\)"),
    re.compile(r"(?P<why>Host \S+ not found)"),
    re.compile(r"unresolved dependency: (?P<why>[^\n,\]]+)"),
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LockedJar:
    """One line of `jars.lock`.

    Attributes:
        coordinates: Maven coordinates, `group:artifact:version`.
        file: Name in the folder.
        sha256: Hash of the content, 64 hexadecimal digits.
    """

    coordinates: str
    file: str
    sha256: str

    @property
    def ivy_file(self) -> str:
        """Name that Spark's Ivy gives the fetched file."""
        return f"{self.coordinates.split(':')[0]}_{self.file}"

    def is_at(self, path: Path) -> bool:
        """Return whether the file at `path` is this jar, by content."""
        try:
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, "sha256").hexdigest() == self.sha256
        except FileNotFoundError:
            return False


def locked_jars() -> tuple[LockedJar, ...]:
    """Return the jars of `jars.lock`, in its order."""
    text = (resources.files("mlops_assets.resources") / "jars.lock").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return tuple(LockedJar(*fields) for fields in lines)


def missing_jars(folder: Path) -> tuple[LockedJar, ...]:
    """Return the locked jars that are absent from `folder`, or there with another content.

    The whole content is hashed on each call: 9 MB, some 10 ms, once per Spark session.

    Raises:
        StorageError: The folder exists and can't be read.
    """
    try:
        return tuple(jar for jar in locked_jars() if not jar.is_at(folder / jar.file))
    except OSError as error:
        raise _unusable(folder, error) from None


def ensure_delta_jars(folder: Path) -> tuple[Path, ...]:
    """Return the Delta jars in `folder`, resolving them first if they are not all there.

    Any number of processes may call this at once: one resolves, the others wait for it. A jar gets its name only
    once its hash is right, so a process that is killed leaves nothing behind that a later one would trust.

    Args:
        folder: Where the jars are kept; made if absent.

    Returns:
        Absolute paths, in the order of `jars.lock`; each file's SHA-256 has been checked in this call.

    Raises:
        StorageError: The folder can't be used, the jars can't be fetched, or a fetched jar is not the locked one.
    """
    folder = folder.resolve()
    if missing_jars(folder):
        with _exclusive(folder):
            missing = missing_jars(folder)  # another process may have brought them while this one waited
            if missing:
                _resolve(missing, folder)
    return tuple(folder / jar.file for jar in locked_jars())


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    from filelock import FileLock, Timeout

    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / ".lock", timeout=RESOLVE_SECONDS):
            yield
    except Timeout:
        raise StorageError(
            f"another process has been fetching the Delta jars for {RESOLVE_SECONDS:.0f} s",
            where=str(folder),
            fix="stop it, then try again",
            transient=True,
        ) from None
    except OSError as error:
        raise _unusable(folder, error) from None


def _resolve(jars: tuple[LockedJar, ...], folder: Path) -> None:
    """Fetch `jars` into `folder`; the caller holds its lock."""
    for jar in jars:
        if (folder / jar.file).exists():
            log.warning("%s is not the locked jar; fetching it again", folder / jar.file)
    for left_over in folder.glob(f"{_SCRATCH}*"):  # of a process that was killed: we hold the lock, so nobody uses it
        shutil.rmtree(left_over)
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as name:
        scratch = Path(name)
        report = _run_ivy(jars, scratch)
        for jar in jars:
            fetched = scratch / "jars" / jar.ivy_file
            if not fetched.is_file():
                raise StorageError(
                    f"{jar.coordinates} can't be fetched: {_reason(report)}",
                    where=str(folder),
                    fix="give Spark's Ivy a repository it can reach (network, proxy, or spark.jars.ivySettings in "
                    f"spark-defaults.conf), or copy {jar.file} into that folder, then try again",
                    transient=True,
                )
            if not jar.is_at(fetched):
                raise StorageError(
                    f"{jar.coordinates} was fetched, but its SHA-256 is not the one in jars.lock",
                    where=str(folder),
                    fix="find out which repository or mirror serves a different file, and use another",
                )
            # Same file system, so the rename is atomic: no reader ever sees half a jar.
            fetched.replace(folder / jar.file)


def _run_ivy(jars: tuple[LockedJar, ...], scratch: Path) -> str:
    """Let spark-submit resolve `jars` into `scratch`/jars, and return everything it printed."""
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise StorageError("pyspark is not installed", where=sys.executable, fix="install mlops_assets' dependencies")
    spark_home = Path(spec.origin).parent
    nothing_to_do = scratch / "nothing_to_do.py"
    nothing_to_do.touch()
    command = [
        # `env` sets what must differ for spark-submit alone, without this process's environment being touched.
        "env",
        f"SPARK_HOME={spark_home}",
        f"PYSPARK_PYTHON={sys.executable}",
        f"PYSPARK_DRIVER_PYTHON={sys.executable}",
        "SPARK_LOCAL_IP=127.0.0.1",
        str(spark_home / "bin" / "spark-submit"),
        *("--master", "local[1]", "--deploy-mode", "client"),
        *("--packages", ",".join(jar.coordinates for jar in jars)),
        *("--exclude-packages", _NOT_NEEDED),
        *("--conf", f"spark.jars.ivy={scratch}"),
        str(nothing_to_do),
    ]
    try:
        answer = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,  # the caller checks whether the jars arrived; they may have, even if spark-submit then failed
            timeout=RESOLVE_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return f"unresolved dependency: no answer in {RESOLVE_SECONDS:.0f} s"
    return answer.stdout


def _reason(report: str) -> str:
    """Return the line of Ivy's report that gives the reason."""
    for pattern in _REASONS:
        match = pattern.search(report)
        if match:
            return match["why"].strip()
    lines = [line.strip() for line in report.splitlines() if line.strip()]
    return lines[-1] if lines else "spark-submit ended without output"


def _unusable(folder: Path, error: OSError) -> StorageError:
    return StorageError(
        f"folder for the Delta jars can't be used: {error.strerror}",
        where=str(error.filename or folder),
        fix="set MLOPS_HOME to a folder that can be written",
    )
