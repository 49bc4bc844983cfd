"""Sets up a checkout: virtual environment, locked dependencies, the project itself, Delta jars.

What belongs here: what `make` needs done before its target, with the standard library alone. What does not: finding
Python and Java (`preflight.sh`, which comes first), and anything that a run does.

Run by the Makefile with the Python that `preflight.sh` chose. When nothing has changed it only compares a stamp and
hashes the jars. A set-up that was interrupted is done over.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import os
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements.lock"
PROJECT = ROOT / "pyproject.toml"
# The workspace that `make demo TARGET=databricks-local` and the tests launch on; a package of its own.
LOOPBACK = ROOT / "packages" / "databricks-loopback"
# Raised when the steps below change, so that environments made by the former ones are brought up to date.
STEPS_VERSION = 2
MARK = "# made by mlops_assets: `make clean` removes this folder\n*\n"
# What installs the rest: uv, and setuptools, with which pyspark (published as source only) is built.
SEEDS = ("setuptools", "uv")
PIP_OPTIONS = ("--quiet", "--disable-pip-version-check", "--no-input")
HEARTBEAT_SECONDS = 15.0
# Of uv's hundreds of lines, those that tell a user how far it is.
_MILESTONE = re.compile(r"\s*(Building pyspark|Prepared \d\d|Installed \d\d|Bytecode compiled)")
# One locked requirement with its hashes: from its name to the first line that is not continued.
_REQUIREMENT = re.compile(r"^(?P<name>[A-Za-z0-9][\w.-]*)(?:\[.*\])?==(?:.*\\\n)*.*$", re.MULTILINE)
_PIP_SETTING = re.compile(r"^[\w:]+\.(?P<name>index-url|extra-index-url|cert)='(?P<value>.*)'$", re.MULTILINE)
# pip's setting, the variable by which uv takes the same, and the other one by which a user may have set it already.
_UV_TWINS = (
    ("index-url", "UV_DEFAULT_INDEX", "UV_INDEX_URL"),
    ("extra-index-url", "UV_INDEX", "UV_EXTRA_INDEX_URL"),
    ("cert", "SSL_CERT_FILE", "SSL_CERT_DIR"),
)


class SetupError(Exception):
    """A set-up that can't go on; its text says why and what to do."""


def main() -> int:
    """Bring the environment up to date, and return the exit code."""
    parser = argparse.ArgumentParser(description="Set up this checkout.")
    parser.add_argument("--venv", required=True, type=Path, help="the virtual environment")
    parser.add_argument("--home", required=True, type=Path, help="the folder that runs write to (MLOPS_HOME)")
    options = parser.parse_args()
    venv, home = options.venv.absolute(), options.home.absolute()
    try:
        prepare_home(home)
        if not is_current(venv):
            with one_at_a_time():
                if not is_current(venv):
                    set_up(venv, home / "setup.log")
        return ensure_jars(venv, home / "jars")
    except SetupError as error:
        print(f"set-up: {error}", file=sys.stderr)
    except OSError as error:
        print(f"set-up: {error.filename or ROOT}: {error.strerror}", file=sys.stderr)
    except KeyboardInterrupt:
        print("set-up: interrupted; the next `make` does it over", file=sys.stderr)
        return 130
    return 1


def say(text: str) -> None:
    """Show one line of progress."""
    print(f"set-up: {text}", flush=True)


def stamp_text(venv: Path) -> str:
    """Return what the stamp of an up-to-date environment says."""
    lock_hash = hashlib.sha256(LOCK.read_bytes()).hexdigest()
    # The installed metadata (requirements, entry points) is made from these.
    project_hash = hashlib.sha256(PROJECT.read_bytes() + (LOOPBACK / "pyproject.toml").read_bytes()).hexdigest()
    # The paths too: scripts and the link to the project hold them, so a checkout that was moved must be set up anew.
    return f"{STEPS_VERSION}\n{lock_hash}\n{project_hash}\n{sys.version}\n{venv}\n{ROOT}\n"


def is_current(venv: Path) -> bool:
    """Return whether `venv` was completed with this lock, by this Python and at this place."""
    try:
        return (venv / ".mlops-stamp").read_text("utf-8") == stamp_text(venv) and (venv / "bin" / "python").exists()
    except (FileNotFoundError, NotADirectoryError):
        return False


def was_moved(venv: Path) -> bool:
    """Return whether `venv` was completed at another place, which is where its scripts still look for their Python."""
    try:
        return str(venv) not in (venv / ".mlops-stamp").read_text("utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return False


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """Hold the checkout, so that a second `make` waits for the first one's set-up."""
    # The folder itself is locked: there is no file to leave behind, and the lock goes with the process.
    checkout = os.open(ROOT, os.O_RDONLY)
    try:
        try:
            fcntl.flock(checkout, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another one in this checkout")
            fcntl.flock(checkout, fcntl.LOCK_EX)
        yield
    finally:
        os.close(checkout)


def prepare_home(home: Path) -> None:
    """Make the folder that runs write to, and mark it as ours unless it holds somebody's files already."""
    mark = home / ".gitignore"
    if not mark.exists():
        home.mkdir(parents=True, exist_ok=True)
        if home == ROOT / ".mlops" or not any(home.iterdir()):
            mark.write_text(MARK, "utf-8")


def set_up(venv: Path, log_file: Path) -> None:
    """Make `venv` from scratch, or bring it up to date if it is sound.

    Raises:
        SetupError: A step failed, or the folder is no virtual environment and not empty.
    """
    started = time.monotonic()
    begun, stamp = venv / ".mlops-begun", venv / ".mlops-stamp"
    version = ".".join(str(part) for part in sys.version_info[:3])
    if not begun.exists() and not was_moved(venv) and has_this_python(venv):
        say(f"bringing {venv} up to date (Python {version})")
    else:
        say(f"making {venv} with Python {version}")
        empty(venv, keep=begun)
    begun.touch()
    stamp.unlink(missing_ok=True)
    with log_file.open("w", encoding="utf-8") as log:
        # Not the running Python: that may be the link inside the environment. On a sound one this only adds pip if
        # it is missing.
        run([getattr(sys, "_base_executable", sys.executable), "-m", "venv", str(venv)], log)
        install(venv / "bin" / "python", log)
    unfinished = stamp.with_suffix(".new")
    unfinished.write_text(stamp_text(venv), "utf-8")
    unfinished.replace(stamp)
    begun.unlink()
    say(f"the environment is ready ({time.monotonic() - started:.0f} s)")


def has_this_python(venv: Path) -> bool:
    """Return whether `venv` is an environment that works and has the running Python's minor version."""
    probe = "import sys; print(*sys.version_info[:2], sys.prefix != sys.base_prefix)"
    try:
        answer = subprocess.run(
            [venv / "bin" / "python", "-c", probe], capture_output=True, text=True, check=True, timeout=60
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return answer.stdout.split() == [*(str(part) for part in sys.version_info[:2]), "True"]


def empty(venv: Path, *, keep: Path) -> None:
    """Remove what is left of an environment, but for the file `keep`.

    Raises:
        SetupError: The folder holds something else, or is a link to another one, so it is not touched.
    """
    if venv.is_symlink():
        raise SetupError(f"{venv} is a link; name the folder that it leads to with VENV=, or remove the link")
    venv.mkdir(parents=True, exist_ok=True)
    inside = list(venv.iterdir())
    if inside and not keep.exists() and not (venv / "pyvenv.cfg").exists():
        raise SetupError(f"{venv} is no virtual environment and not empty; name another folder with VENV=")
    keep.touch()  # before anything is removed: a folder that is half empty must be known for what it is
    for entry in inside:
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        elif entry != keep:
            entry.unlink()


def install(python: Path, log: TextIO) -> None:
    """Install the lock, then project and loopback workspace as editables, with uv or, where that fails, with pip.

    Raises:
        SetupError: pip failed as well.
    """
    requirements = list(_REQUIREMENT.finditer(LOCK.read_text("utf-8")))
    say(f"installing {len(requirements)} locked packages (about 1 GB is downloaded the first time, then cached)")
    pip = [str(python), "-m", "pip", "install", *PIP_OPTIONS]
    seed = Path(log.name).with_name("setup-seed.txt")
    seed.write_text("".join(f"{found[0]}\n" for found in requirements if found["name"] in SEEDS), "utf-8")
    run([*pip, "--no-deps", "--require-hashes", "--requirement", str(seed)], log)
    seed.unlink()

    # Without isolation the build tools too are the locked ones.
    locked = ["--no-build-isolation", "--require-hashes", "--requirement", str(LOCK)]
    project = ["--no-build-isolation", "--no-deps", "--editable", str(ROOT), "--editable", str(LOOPBACK)]
    uv = [str(python.with_name("uv")), "pip", "install", "--python", str(python)]
    environment = uv_environment(python)
    try:
        # Compiled here, in parallel and once: each process of a run would else do it, and where
        # PYTHONDONTWRITEBYTECODE is set, as in many containers, each would do it over again.
        run([*uv, "--compile-bytecode", *locked], log, environment)
        run([*uv, *project], log, environment)
    except SetupError as error:
        say(f"uv could not do it ({str(error).splitlines()[-1].strip()}); trying pip, which takes minutes")
        run([*pip, *locked], log)
        run([*pip, *project], log)


def uv_environment(python: Path) -> dict[str, str]:
    """Return the process environment, with the index and the certificates that pip is configured to use, for uv.

    uv does not read pip's settings; a user behind a company's mirror has set it for pip.
    """
    listed = subprocess.run([str(python), "-m", "pip", "config", "list"], capture_output=True, text=True, check=False)
    settings = {found["name"]: found["value"] for found in _PIP_SETTING.finditer(listed.stdout)}
    environment = {"UV_HTTP_TIMEOUT": "180", **os.environ}
    for setting, variable, other in _UV_TWINS:
        if setting in settings and variable not in environment and other not in environment:
            environment[variable] = settings[setting]
    return environment


def run(command: list[str], log: TextIO, environment: dict[str, str] | None = None) -> None:
    """Run one step with its output in the log, showing its milestones and that it is still alive.

    Raises:
        SetupError: The step can't be started or failed; the text has its last lines.
    """
    log.write(f"$ {' '.join(command)}\n")
    log.flush()
    try:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise SetupError(f"{command[0]}: {error.strerror}") from None
    lines: queue.Queue[str | None] = queue.Queue()
    threading.Thread(target=_read_lines, args=(process.stdout, lines), daemon=True).start()
    tail: list[str] = []
    started = time.monotonic()
    while True:
        try:
            line = lines.get(timeout=HEARTBEAT_SECONDS)
        except queue.Empty:
            say(f"  still at it ({time.monotonic() - started:.0f} s) ...")
            continue
        if line is None:
            break
        log.write(line)
        tail = [*tail, line.rstrip()][-8:]
        if _MILESTONE.match(line):
            say(f"  {line.strip()}")
    log.flush()
    if process.wait() != 0:
        last_lines = "\n  ".join(tail)
        raise SetupError(f"`{' '.join(command[:4])} ...` failed; all of its output is in {log.name}\n  {last_lines}")


def _read_lines(stream: TextIO, lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def ensure_jars(venv: Path, folder: Path) -> int:
    """Have the Delta jars in `folder`, and return the exit code of the step."""
    sys.path.insert(0, str(ROOT))
    # This module of the project needs nothing installed; asking it here is what keeps the usual case short.
    from mlops_assets.resources.delta_jars import missing_jars  # noqa: PLC0415 - the path is only known here

    if not missing_jars(folder):
        return 0
    # In the environment's Python, which has filelock and pyspark; it reports by itself.
    fetch = [str(venv / "bin" / "python"), "-m", "mlops_assets.resources.delta_jars", str(folder)]
    return subprocess.run(fetch, cwd=ROOT, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
