"""Access to file systems: opening one by URL, with its answers and errors in one form.

What belongs here: what listing and reading have in common (fsspec, its drivers' errors, names that are safe to show).
What does not: what is listed (`listing`) or read (`files`), HTTP (`download`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import fsspec
from fsspec.implementations.local import LocalFileSystem

from mlops_assets.data.sources.locations import holds_secret, shown
from mlops_assets.errors import PlatformError, SourceError, UnreachableError
from mlops_assets.foreign_text import printable

_CHAIN = "::"
# How file systems say when, or as which revision, a file was written; the first one present is used.
REVISIONS = ("ETag", "etag", "content_hash", "md5Hash", "mtime", "LastModified", "last_modified", "updated", "created")
Answered = TypeVar("Answered")
# Returns the file system of a location and the path in it, as `file_system` does.
Opener = Callable[[str], tuple[Any, str]]


def file_system(item: str) -> tuple[Any, str]:
    """Return the file system of a path or URL, and the path in it.

    Raises:
        SourceError: No driver handles it.
        UnreachableError: The driver refuses.
    """
    if _CHAIN in item:
        # To fsspec this is a file within another, or fetched through another: a name that opens anything.
        what = "the location has `::`, by which one file system is opened through another"
        raise SourceError(what, where=shown(item), fix="rename the file, or name the place itself")
    scheme = item.partition("://")[0]
    what = problem = ""
    try:
        fs, path = fsspec.core.url_to_fs(item)
    except ImportError as error:
        # fsspec keeps one sentence per driver that says which package it is in.
        what, fix = f"the driver for {scheme}:// is missing", str(error).split("\n", maxsplit=1)[0]
    except ValueError:
        what, fix = (
            f"no driver handles {scheme}://",
            "install the package with its driver (abfss: adlfs), or correct the scheme",
        )
    except Exception as error:  # noqa: BLE001 - each driver raises what its own library raises
        problem = _foreign(error, item)
        fix = "check the URL, and the access rights that its driver needs"
    else:
        return fs, path
    if problem:
        raise UnreachableError(problem, where=shown(item), fix=fix)
    raise SourceError(what, where=shown(item), fix=fix)


def leaves(fs: Any, path: str, folder: str) -> bool:
    """Return whether a local path leads out of a folder by symbolic links; elsewhere there are none."""
    if not isinstance(fs, LocalFileSystem):
        return False
    return not Path(path).resolve().is_relative_to(Path(folder).resolve())


def revision_of(entry: Mapping[str, Any]) -> tuple[object, object]:
    """Return what changes when a file does: its size, and its revision or when it was written."""
    return entry.get("size"), next((entry[name] for name in REVISIONS if entry.get(name) is not None), "")


def info_of(fs: Any, path: str) -> dict[str, Any]:
    """Return the file system's entry of a path, past its cache."""
    # A long-lived process must see files that came after its first look.
    fs.invalidate_cache()
    entry: dict[str, Any] = fs.info(path)
    return entry


def ask(item: str, action: Callable[[], Answered], where: str | None = None) -> Answered | None:
    """Return a file system's answer, or None if the path does not exist.

    Raises:
        UnreachableError: It does not answer, or denies access.

    The error is raised outside of the handler, so that no foreign message, which may repeat a secret, is chained to it.
    """
    try:
        return action()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PlatformError:
        raise
    except PermissionError:
        denied, what, fix = True, "permission denied", "give the user of this process the right to read it"
    except Exception as error:  # noqa: BLE001 - each driver raises what its own library raises
        denied, what = False, _foreign(error, item)
        fix = "check that the storage is reachable from here with these access rights"
    raise UnreachableError(what, where=where or shown(item), fix=fix, transient=not denied)


def _foreign(error: Exception, item: str) -> str:
    text = "" if holds_secret(item) else f": {' '.join(str(error).split())[:200]}"
    return f"the storage can't be read ({type(error).__name__}{text})"


def changed_while_read(where: str) -> UnreachableError:
    """Return the error of a file whose revision differs after it was read."""
    what, fix = "the file changed while it was read", "load again once it is whole"
    return UnreachableError(what, where=where, fix=fix, transient=True)


def disappeared(where: str) -> SourceError:
    """Return the error of a file that was listed and is not there."""
    return SourceError("the file disappeared before it was read", where=where, fix="load again")


def origin_of(fs: Any, path: str, written: str) -> str:
    """Return a file's name in messages: its full path on this machine, else the URL as written, without secrets."""
    return printable(path if isinstance(fs, LocalFileSystem) else shown(written))


def name_of(path: str) -> str:
    """Return the last part of a path."""
    return path.rstrip("/").rpartition("/")[2]
