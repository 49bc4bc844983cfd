"""The code that is sent to a cluster: packages and the files that are named, as a reproducible zip.

What belongs here: which files, their bytes, the name of the zip. What does not: where it is stored (`staging`).

Only file types that a Python package consists of are packed, so data, databases, keys and caches in the folder stay
where they are. The folder's own path does not matter: Dagster's `build_pyspark_zip` skips every file whose absolute
path contains "pytest", and packs `.git` and `.venv` of a repository's root.
"""

from __future__ import annotations

import hashlib
import importlib.util
import io
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_assets.errors import LaunchError

_KINDS: Final = frozenset(
    {".py", ".pyi", ".typed", ".yaml", ".yml", ".json", ".toml", ".lock", ".txt", ".sql", ".html", ".css", ".js"}
)
_LARGEST: Final = 50 * 1024 * 1024
# The earliest time that a zip can store.
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class CodeArchive:
    """A zip of packages.

    Attributes:
        name: File name, from a hash of the content: the same content has the same name.
        data: The zip.
        files: Names of its files, sorted.
    """

    name: str
    data: bytes
    files: tuple[str, ...]


def pack(
    packages: Sequence[str], *, beside: Mapping[str, Path] | None = None, forbidden: Sequence[bytes] = ()
) -> CodeArchive:
    """Return a zip of packages.

    Args:
        packages: Import names. For a nested package, its parents' `__init__.py` are included.
        beside: Files to put beside the packages, by their name there.
        forbidden: Byte strings that no file may contain (credentials of the launching side).

    Raises:
        LaunchError: A package does not exist, is too large, or has a file with a forbidden string.
    """
    files = {name: path for package in packages for name, path in _files(package)} | dict(beside or {})
    digest, buffer = hashlib.sha256(), io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        size = 0
        for name, path in sorted(files.items()):
            content = path.read_bytes()
            size += len(content)
            if any(text in content for text in forbidden):
                raise LaunchError(
                    "the code to be sent contains a credential of the launching side",
                    where=str(path),
                    fix="remove it and revoke it; the cluster has its own identity",
                )
            if size > _LARGEST:
                raise LaunchError(
                    f"the code is larger than {_LARGEST // 2**20} MB",
                    where=", ".join(packages),
                    fix="keep data out of the package's folder",
                )
            digest.update(f"{name}\0{len(content)}\0".encode())
            digest.update(content)
            entry = zipfile.ZipInfo(name, _EPOCH)
            entry.compress_type, entry.create_system, entry.external_attr = zipfile.ZIP_DEFLATED, 3, 0o644 << 16
            archive.writestr(entry, content)
    return CodeArchive(f"code-{digest.hexdigest()[:24]}.zip", buffer.getvalue(), tuple(sorted(files)))


def root_of(package: str) -> Path:
    """Return the folder that a package is imported from.

    Raises:
        LaunchError: There is no such package, or it is not a folder.
    """
    return _folder(package).parents[package.count(".")]


def _files(package: str) -> Iterator[tuple[str, Path]]:
    folder, root = _folder(package), root_of(package)
    for parent in folder.relative_to(root).parents:
        init = root / parent / "__init__.py"
        if parent.parts and init.is_file():
            yield init.relative_to(root).as_posix(), init
    for path in sorted(folder.rglob("*")):
        inner = path.relative_to(folder)
        hidden = any(part.startswith(".") or part == "__pycache__" for part in inner.parts)
        if path.suffix in _KINDS and not hidden and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            yield path.relative_to(root).as_posix(), path


def _folder(package: str) -> Path:
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        spec = None
    locations = list(spec.submodule_search_locations or []) if spec else []
    if not locations:
        raise LaunchError(
            f"package {package} can't be sent to the cluster: there is no such package here",
            where="packages",
            fix="put the code into packages (folders with __init__.py) that this environment can import",
        )
    return Path(locations[0])
