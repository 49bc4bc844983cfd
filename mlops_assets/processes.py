"""Which process something belongs to, in a form that another process can check later, and whose its files are.

What belongs here: the text that names a process, and whether that process has died; that what it writes is its user's
alone. What does not: who notes it (runs of Dagster and of MLflow), and what follows from a death.

The module stands above the rooms because several need it.
"""

from __future__ import annotations

import os
import platform
from pathlib import Path


def keep_files_private() -> None:
    """Have this process, and all that it starts, write files that only this user can read.

    Called first thing by each program of the platform, and by its code location: tables hold cards, the quarantine raw
    values, and the loopback workspace its token. Only the JVM must be told separately (`resources.spark`).
    """
    os.umask(0o077)


def this_process() -> str:
    """Return the text from which `has_died` tells whether this process is still alive: host, number, start."""
    return process(os.getpid())


def process(pid: int) -> str:
    """Return the text for a living process of this machine."""
    return f"{platform.node()}:{pid}:{_start_of(pid)}"


def has_died(named: str) -> bool:
    """Return whether a text of `this_process` names a process of this machine that has died."""
    host, _, rest = named.partition(":")
    pid, _, start = rest.partition(":")
    if host != platform.node() or not pid.isdecimal():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return start != _start_of(int(pid)) if start else False


def _start_of(pid: int) -> str:
    """Return the start time of a process in the kernel's ticks; empty for a zombie, or where there is no /proc.

    The process number alone is not enough: in a container, every run may get the number of a run that was killed.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()  # from field 3 of proc(5) on; the name before it may contain spaces
    return "" if fields[0] in "ZX" else fields[19]
