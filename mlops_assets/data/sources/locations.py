"""How input locations are written: lists of them, and a form of each that is safe to show.

What belongs here: string handling of paths and URLs. What does not: opening anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal
from urllib.parse import urlsplit

FileKind = Literal["csv", "csv.gz", "parquet"]
# Where a workspace mounts storage on every machine.
MOUNTED = ("/Volumes/", "/dbfs/")
READABLE = "*.csv, *.csv.gz, *.parquet"

# User and password of a URL. The second form is a password with an unescaped `/`, `?` or `#`: no URL by the standard,
# but people paste them, and an error that quotes one must not reveal it.
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][\w+.-]*)://(?P<userinfo>[^/?#\s]*|[^/?#@:\s]*:(?!\d*(?:[/?#]|$))\S*)@")
# These put the name of a container, not of a user, before the `@`.
_CONTAINER_SCHEMES = ("abfs", "abfss", "wasb", "wasbs")
# A comma inside user:password@ does not end an item.
_ITEM = re.compile(r"(?:[A-Za-z][\w+.-]*://[^/@]*@|[^,])+")


def split_list(locations: str) -> list[str]:
    """Split at commas and strip blanks; empty items are left out.

    A comma that belongs to a URL's path or query is written `%2C`.
    """
    return [item.strip() for item in _ITEM.findall(locations) if item.strip()]


def joined(files: Iterable[str]) -> str:
    """Return files as one list of locations. A comma in a name would end it, so it becomes a wildcard."""
    return ",".join(file.replace(",", "?") for file in files)


def shown(location: str) -> str:
    """Return the location without user, password and query, which may hold a secret."""
    text = _USERINFO.sub(_without_userinfo, location)
    head, question_mark, tail = text.partition("?")
    # In a path `?` is a wildcard; only what looks like `name=value` is a query there.
    if question_mark and "://" in head and ("http" in head.lower() or "=" in tail):
        text = head
    return text.partition("#")[0] if is_web(text) else text


def holds_secret(location: str) -> bool:
    """Return whether the location has parts that `shown` leaves out."""
    return shown(location) != location


def is_web(location: str) -> bool:
    """Return whether the location is an http or https URL."""
    return location.lower().startswith(("http://", "https://"))


def has_wildcard(path: str) -> bool:
    """Return whether the path is a glob."""
    return any(character in path for character in "*?[")


def web_path(url: str) -> str:
    """Return the path of an http(s) URL; raises ValueError for one that is malformed."""
    return urlsplit(url).path


def kind_of(name: str) -> FileKind | None:
    """Return the format that a file's name stands for, or None for one that is not read."""
    name = name.lower()
    kinds: tuple[FileKind, ...] = ("csv.gz", "csv", "parquet")
    return next((kind for kind in kinds if name.endswith(f".{kind}")), None)


def is_hidden(name: str) -> bool:
    """Return whether a file is one of those that tools write for themselves (`.DS_Store`, `_SUCCESS`)."""
    return name.startswith((".", "_"))


def _without_userinfo(match: re.Match[str]) -> str:
    scheme, userinfo = match["scheme"], match["userinfo"]
    if scheme.lower() in _CONTAINER_SCHEMES and ":" not in userinfo:
        return match[0]
    return f"{scheme}://"
