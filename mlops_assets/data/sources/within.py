"""Whether locations lie within a place: a run may load a part of a model's source, and nothing else.

What belongs here: comparing locations. What does not: what a place is used for, listing it (`listing`).
"""

from __future__ import annotations

import posixpath
import re

from fsspec.utils import glob_translate

from mlops_assets.data.sources.locations import has_wildcard, is_web, shown, split_list
from mlops_assets.data.sources.storage import file_system, leaves


def outside(locations: str, place: str) -> list[str]:
    """Return those of the locations that do not lie within a place, without their secrets.

    A location lies within a place that names it, that is a folder above it, or a glob that it matches. Nothing is
    looked up but links on this machine: a folder is what ends before a `/` of the location, whether or not it exists.

    Args:
        locations: Files, folders or globs, separated by commas; paths or fsspec URLs.
        place: The same.

    Raises:
        SourceError: No driver handles one of them.
    """
    items = split_list(place)
    return [shown(item) for item in split_list(locations) if not any(_lies_within(item, around) for around in items)]


def _lies_within(item: str, around: str) -> bool:
    if item == around:
        return True
    if is_web(item) or is_web(around):  # a query may be a part of what a URL names
        return False
    (fs, path), (fs_around, base) = file_system(item), file_system(around)
    if fs != fs_around:
        return False
    path, base = posixpath.normpath(path), posixpath.normpath(base)
    # Of a pattern, the folder before its first wildcard.
    folder = re.split(r"[*?[]", base, maxsplit=1)[0].rpartition("/")[0] if has_wildcard(base) else base
    if path != base and leaves(fs, path, folder or "/"):
        return False
    if has_wildcard(base):
        # `**` in a pattern would reach below a folder where the place's own `*` does not.
        return path == base or ("**" not in path and re.match(glob_translate(base), path) is not None)
    return path == base or path.startswith(f"{base.rstrip('/')}/")
