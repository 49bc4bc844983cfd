"""The three sets as a training reads them: versions that belong together, and what their commits say of them.

What belongs here: finding them, and reading their commits. What does not: splitting (`split_sets`), training.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.split_sets import SET_TABLES, SETS_LOCK
from mlops_assets.lineage import LATE_LABELS, RAW_DATA_VERSION, RAW_VERSION, ROW_COUNT, SPLIT_ID, TRAINED_ROWS

_TOGETHER = "materialize train_set, validation_set and test_set together"


def pinned_sets(lakehouse: Lakehouse) -> dict[str, TableVersion]:
    """Return the newest version of each set, after checking that all three come from one split.

    The three tables are committed one after another; they belong together if their commits carry the same split id.
    If another run is writing them, this waits for it.

    Raises:
        StorageError: A set is missing, or they come from different splits.
    """
    with lakehouse.exclusive(SETS_LOCK):
        # The versions that the split wrote: lookups by a model's sets would not know a version made by upkeep since.
        sets = {name: lakehouse.require(table, made_by=table).named_by_rows for name, table in SET_TABLES.items()}
    for table in sets.values():
        if SPLIT_ID not in table.metadata:
            raise StorageError(
                f"version {table.version} was not written by the platform: its commit has no split id",
                where=lakehouse.location(table.name),
                fix=_TOGETHER,
            )
    ids = {name: str(table.metadata[SPLIT_ID]) for name, table in sets.items()}
    if len(set(ids.values())) != 1:
        listed = ", ".join(f"{name}: {split_id}" for name, split_id in ids.items())
        raise StorageError(
            f"the sets come from different splits ({listed})",
            where=", ".join(lakehouse.location(table.name) for table in sets.values()),
            fix=_TOGETHER,
        )
    return sets


def said_of(sets: Mapping[str, TableVersion]) -> dict[str, Any]:
    """Return what the commits of three sets say: the split, its version of the raw table, rows and late labels.

    Sets that an earlier release has cut say less.

    Args:
        sets: Version of each set, by the set's name.
    """
    commits = [table.metadata for table in sets.values()]
    split = {name: commits[0][name] for name in (SPLIT_ID, RAW_VERSION, RAW_DATA_VERSION) if name in commits[0]}
    if not all(ROW_COUNT in commit for commit in commits):
        return split
    rows, late = (sum(int(commit[name]) for commit in commits) for name in (ROW_COUNT, LATE_LABELS))
    return {**split, TRAINED_ROWS: rows, LATE_LABELS: late}
