"""What the history of a Delta table says: its newest version, and which commits wrote rows.

What belongs here: reading entries of `DESCRIBE HISTORY`, which delta-rs returns in the same form. What does not:
getting them (`tables`), the metadata that our own commits carry (`lineage`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

# Commits of others that write rows, by their name in a table's history (Delta's `DeltaOperations`, and delta-rs). Any
# other commit without our note is upkeep, whatever its name: Unity Catalog's predictive optimization, or the next
# runtime, may make some at any time.
WRITES_ROWS: Final = frozenset(
    {
        "WRITE",
        "STREAMING UPDATE",
        "DELETE",
        "TRUNCATE",
        "MERGE",
        "UPDATE",
        "COPY INTO",
        "RESTORE",
        "CLONE",
        "CONVERT",
        "CREATE TABLE",
        "CREATE TABLE AS SELECT",
        "REPLACE TABLE",
        "REPLACE TABLE AS SELECT",
        "CREATE OR REPLACE TABLE",
        "CREATE OR REPLACE TABLE AS SELECT",
    }
)
_LOOK_BACK: Final = 100
_UNKNOWN: Final = -1
# Every commit of ours says which version it follows (`Commits._commit`): that makes a note ours.
FOLLOWS: Final = "follows"
HISTORY_COLUMNS: Final = ("version", "operation", "userMetadata", "operationMetrics")


@dataclass(frozen=True)
class LastCommit:
    """A version of a table.

    Attributes:
        version: Its number.
        rows_version: The version that last changed the rows; everything after it is upkeep.
        metadata: `userMetadata` of the commit that last changed the rows.
        metrics: `operationMetrics` of that commit, those that are counts.
        operation: Its name in the table's history, in capitals.
    """

    version: int
    rows_version: int
    metadata: Mapping[str, Any]
    metrics: Mapping[str, int] = field(default_factory=dict)
    operation: str = ""


def last_commit(history: Iterable[Mapping[str, Any]]) -> LastCommit:
    """Return the newest version, with metadata and counts of the newest commit that wrote rows.

    Args:
        history: Entries of the table's history, newest first, with the columns `HISTORY_COLUMNS`.
    """
    entries = list(history)
    wrote: Mapping[str, Any] = next(iter(_row_commits(entries)), {})
    return replace(
        _commit_of({**wrote, "version": entries[0]["version"]}),
        rows_version=int(wrote.get("version", _UNKNOWN)),
    )


def newest_commit(look: Callable[[int | None], Iterable[Mapping[str, Any]]]) -> LastCommit:
    """Return the newest version; the commit that wrote its rows is looked for in the whole log if need be.

    Args:
        look: Returns the given number of newest history entries; all of them when None.
    """
    newest = last_commit(look(_LOOK_BACK))
    if newest.rows_version != _UNKNOWN:
        return newest
    entries = list(look(None))
    whole = last_commit(entries)
    # If the log begins with upkeep, the rows are at least as old as its first version; that is all it says.
    return replace(whole, rows_version=int(entries[-1]["version"])) if whole.rows_version == _UNKNOWN else whole


def commits_after(history: Iterable[Mapping[str, Any]], version: int) -> list[LastCommit]:
    """Return the commits after a version that wrote rows, oldest first."""
    newest_first = sorted(history, key=lambda entry: int(entry["version"]), reverse=True)
    commits = [_commit_of(entry) for entry in _row_commits(newest_first) if int(entry["version"]) > version]
    return sorted(commits, key=lambda commit: commit.version)


def _row_commits(newest_first: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the commits that wrote rows: those with a note of ours, and those of others that say so.

    Delta may compact a table right after a write, in the same session and therefore with the same note. A note names
    the version that its commit follows, so it is unique; the oldest commit that carries it is the write.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for entry in newest_first:
        if FOLLOWS in _metadata_of(entry.get("userMetadata")):
            found[str(entry["userMetadata"])] = entry
        elif str(entry["operation"]).upper() in WRITES_ROWS:
            found[f"version {entry['version']}"] = entry
    return list(found.values())


def _commit_of(entry: Mapping[str, Any]) -> LastCommit:
    counted = entry.get("operationMetrics") or {}
    counts = {name: int(value) for name, value in counted.items() if str(value).isdigit()}
    metadata, operation = _metadata_of(entry.get("userMetadata")), str(entry.get("operation", "")).upper()
    return LastCommit(int(entry["version"]), int(entry["version"]), metadata, counts, operation)


def _metadata_of(text: str | None) -> dict[str, Any]:
    """Parse a commit's `userMetadata`; commits that are not ours may hold any text there, and give an empty dict."""
    try:
        metadata = json.loads(text or "{}")
    except json.JSONDecodeError:
        return {}
    return metadata if isinstance(metadata, dict) else {}
