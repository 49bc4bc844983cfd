"""What the history of a Delta table says: its newest version, and which commits changed rows.

What belongs here: reading entries of `DESCRIBE HISTORY`, which delta-rs returns in the same form. What does not:
getting them (`tables`), the metadata that our own commits carry (`lineage`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

# Commits that do not change rows, by their name in a table's history (Delta's `DeltaOperations`). Unity Catalog's
# predictive optimization may make some of them at any time.
_UPKEEP: Final = frozenset(
    {
        "OPTIMIZE",
        "VACUUM START",
        "VACUUM END",
        "COMPUTE STATS",
        "REORG",
        "CLUSTER BY",
        "SET TBLPROPERTIES",
        "UNSET TBLPROPERTIES",
        "UPGRADE PROTOCOL",
        "ADD FEATURE",
        "DROP FEATURE",
        "ADD CONSTRAINT",
        "DROP CONSTRAINT",
        "CHANGE COLUMN",
    }
)
_LOOK_BACK: Final = 100
_UNKNOWN: Final = -1
HISTORY_COLUMNS: Final = ("version", "operation", "userMetadata", "operationMetrics")


@dataclass(frozen=True)
class LastCommit:
    """A version of a table.

    Attributes:
        version: Its number.
        rows_version: The version that last changed the rows; everything after it is upkeep.
        metadata: `userMetadata` of the commit that last changed the rows.
        metrics: `operationMetrics` of that commit, those that are counts.
    """

    version: int
    rows_version: int
    metadata: Mapping[str, Any]
    metrics: Mapping[str, int] = field(default_factory=dict)


def last_commit(history: Iterable[Mapping[str, Any]]) -> LastCommit:
    """Return the newest version, with metadata and counts of the newest commit that changed rows.

    Args:
        history: Entries of the table's history, newest first, with the columns `HISTORY_COLUMNS`.
    """
    entries = list(history)
    wrote = next((entry for entry in entries if _wrote_rows(entry)), {})
    return replace(
        _commit_of({**wrote, "version": entries[0]["version"]}),
        rows_version=int(wrote.get("version", _UNKNOWN)),
    )


def newest_commit(look: Callable[[int | None], Iterable[Mapping[str, Any]]]) -> LastCommit:
    """Return the newest version; metadata is searched for in `_LOOK_BACK` commits, the rows' version in the whole log.

    Args:
        look: Returns the given number of newest history entries; all of them when None.
    """
    newest = last_commit(look(_LOOK_BACK))
    if newest.rows_version != _UNKNOWN:
        return newest
    entries = list(look(None))
    whole = last_commit(entries).rows_version
    # If the log begins with upkeep, the rows are at least as old as its first version; that is all it says.
    oldest = int(entries[-1]["version"])
    return replace(newest, rows_version=oldest if whole == _UNKNOWN else whole)


def commits_after(history: Iterable[Mapping[str, Any]], version: int) -> list[LastCommit]:
    """Return the commits after a version that changed rows, oldest first."""
    commits = [_commit_of(entry) for entry in history if int(entry["version"]) > version and _wrote_rows(entry)]
    return sorted(commits, key=lambda commit: commit.version)


def _wrote_rows(entry: Mapping[str, Any]) -> bool:
    return str(entry["operation"]).upper() not in _UPKEEP


def _commit_of(entry: Mapping[str, Any]) -> LastCommit:
    counted = entry.get("operationMetrics") or {}
    counts = {name: int(value) for name, value in counted.items() if str(value).isdigit()}
    return LastCommit(int(entry["version"]), int(entry["version"]), _metadata_of(entry.get("userMetadata")), counts)


def _metadata_of(text: str | None) -> dict[str, Any]:
    """Parse a commit's `userMetadata`; commits that are not ours may hold any text there, and give an empty dict."""
    try:
        metadata = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return metadata if isinstance(metadata, dict) else {}
