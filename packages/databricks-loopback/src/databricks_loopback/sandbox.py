"""A machine of a cluster, emulated on this one: with its own root folder, PID namespace and environment.

What belongs here: building the command that enters it. What does not: what runs inside (`image`), when (`runner`).

The new root has the operating system's folders, the Python environment as `/databricks/python3`, Java, and the given
mounts; nothing else of this machine exists there. So only uploaded code can be imported, not what is installed in
editable mode, and `/dbfs`, `/Volumes` and `/Workspace` are plain folders for Python, Spark and the JVM. The PID
namespace guarantees that killing its first process ends all others. As on a real cluster, the environment has the
modules of Spark and Delta and not their distributions: `importlib.metadata` does not find them, because they are part
of the runtime. Packages that only the launching side has are there if the task's libraries name them.

It needs Linux namespaces: root can create them, other users only where user namespaces are allowed.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from databricks_loopback.errors import LoopbackError

PYTHON = "/databricks/python3/bin/python3"
CONTROL = "/databricks/control"
LIBRARIES = "/databricks/libraries"
JARS = "/databricks/jars"
METASTORE = "/databricks/metastore"
HOME = "/root"
WORK = "/databricks/driver"

# Where the environment's packages are bound; its own folder of them holds links.
_PACKAGES = "/databricks/packages"
_WITHOUT_DISTRIBUTION = ("pyspark-*.dist-info", "delta_spark-*.dist-info")
# No runtime has them, and this machine does, because it launches.
_ONLY_AS_LIBRARIES = {
    "dagster-databricks": ("dagster_databricks", "dagster_databricks-*.dist-info"),
    "dagster-pyspark": ("dagster_pyspark", "dagster_pyspark-*.dist-info"),
}
_SYSTEM = ("bin", "sbin", "lib", "lib32", "lib64", "libx32", "usr", "etc", "opt", "nix", "dev", "sys")
_EMPTY = ("proc", "run", "tmp", "var/tmp", HOME.lstrip("/"), WORK.lstrip("/"))
_PROBE_TIMEOUT_S = 30


@dataclass(frozen=True)
class Machine:
    """What one machine of a cluster has in addition to the operating system.

    Attributes:
        mounts: Local folders by their absolute path inside.
        java_home: JAVA_HOME, or None for a machine without Java.
        hidden: Folders that are hidden even if they are in one of the system's own; none is inside another.
        libraries: Names of the libraries that are installed on it, normalized.
    """

    mounts: Mapping[str, Path]
    java_home: Path | None
    hidden: Sequence[Path] = ()
    libraries: Collection[str] = ()

    def command(self, root: Path, argv: Sequence[str]) -> list[str]:
        """Return the command that runs `argv` on the machine.

        Args:
            root: Empty folder that becomes the new root; its content disappears with the command.
            argv: The command to run inside.
        """
        script = self._script(root, argv)
        return [*_unshare(), "--kill-child", "/bin/sh", "-euc", script, "cluster"]

    def _script(self, root: Path, argv: Sequence[str]) -> str:
        new = shlex.quote(str(root))
        lines = [f"mount -t tmpfs -o mode=0755 cluster {new}"]
        for name in _SYSTEM:
            original = Path("/") / name
            if original.is_symlink():
                lines.append(f"ln -s {shlex.quote(str(original.readlink()))} {new}/{name}")
            elif original.is_dir():
                lines.append(_bind(original, f"/{name}", new))
        hidden = [folder for folder in self.hidden if _in_system(folder)]
        lines += [f"mount -t tmpfs hidden {new}{shlex.quote(str(folder))}" for folder in hidden]
        lines += [f"mkdir -p {new}/{name}" for name in _EMPTY]
        # Some containers don't allow a new /proc; the outer one works too, it only shows more processes.
        lines.append(f"mount -t proc proc {new}/proc 2>/dev/null || mount --rbind /proc {new}/proc")
        # Under their own paths, because pyvenv.cfg, links of the environment and the JVM's launcher have absolute ones.
        interpreter = {Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]}
        for folder in sorted(interpreter | ({self.java_home} if self.java_home else set())):
            if not _in_system(folder) or any(folder.is_relative_to(other) for other in hidden):
                lines.append(_bind(folder, str(folder), new))
        lines.append(_bind(Path(sys.prefix), "/databricks/python3", new))
        lines += _without_distributions(new, self.libraries)
        lines += [_bind(folder, inside, new) for inside, folder in self.mounts.items()]
        # A shell stays the first process (`exit` keeps it from replacing itself): the first process ignores signals
        # from inside, so a driver in its place could not be killed by its own crash.
        lines.append(f"chroot {new} /bin/sh -c 'cd {WORK} && \"$@\"; exit $?' sh {shlex.join(argv)}")
        return "\n".join(lines)


def editable_projects() -> list[Path]:
    """Return the folders of what is installed in editable mode (PEP 610), outermost ones only.

    A machine has the Python environment but not these folders, so a task can import only what was uploaded or installed
    for good, as on a real cluster.
    """
    folders = set()
    for distribution in metadata.distributions():
        origin = json.loads(distribution.read_text("direct_url.json") or "{}")
        if origin.get("dir_info", {}).get("editable"):
            folders.add(Path(unquote(urlsplit(origin["url"]).path)))
    return sorted(folder for folder in folders if folder.is_dir() and not folders & set(folder.parents))


def require_namespaces() -> None:
    """Check that this machine can emulate a cluster's.

    Raises:
        LoopbackError: It can't.
    """
    where = f"{sys.platform}, user id {os.getuid() if hasattr(os, 'getuid') else '?'}"
    fix = "run it on Linux as root, or where user namespaces are allowed (`unshare -rm true` must succeed)"
    if sys.platform != "linux" or shutil.which("unshare") is None:
        raise LoopbackError("the loopback workspace needs Linux namespaces and util-linux", where=where, fix=fix)
    with tempfile.TemporaryDirectory() as folder:
        machine = Machine({}, None)
        root = Path(folder) / "root"
        root.mkdir()
        command = machine.command(root, [PYTHON, "-c", "import os"])
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_TIMEOUT_S, check=False)
    if done.returncode != 0:
        raise LoopbackError(
            f"a cluster's machine can't be emulated: {done.stderr.strip() or f'exit code {done.returncode}'}",
            where=where,
            fix=fix,
        )


def _unshare() -> list[str]:
    user = [] if os.getuid() == 0 else ["--user", "--map-root-user"]
    return ["unshare", *user, "--mount", "--propagation", "private", "--pid", "--fork"]


def _bind(source: Path, inside: str, new: str) -> str:
    target = f"{new}{shlex.quote(inside)}"
    return f"mkdir -p {target} && mount --rbind {shlex.quote(str(source))} {target}"


def _without_distributions(new: str, libraries: Collection[str]) -> list[str]:
    """Return the commands that replace the environment's folder of packages by links to all but what is left out."""
    absent = [pattern for name, found in _ONLY_AS_LIBRARIES.items() if name not in libraries for pattern in found]
    packages = Path(sysconfig.get_path("purelib"))
    inside = f"{new}/databricks/python3/{shlex.quote(str(packages.relative_to(sys.prefix)))}"
    return [
        _bind(packages, _PACKAGES, new),
        f"mount -o remount,bind,ro {new}{_PACKAGES}",  # a task that runs pip must not change this machine's packages
        f"mount -t tmpfs packages {inside}",
        f"cd {new}{_PACKAGES} && printf '{_PACKAGES}/%s\\0' * | xargs -0 ln -s -t {inside}",
        f"cd {inside} && rm -f {' '.join([*_WITHOUT_DISTRIBUTION, *absent])}",
    ]


def _in_system(path: Path) -> bool:
    return any(path.is_relative_to(Path("/") / name) for name in _SYSTEM)
