"""Which of several rows with the same key is kept: the last write.

What belongs here: the rule, its use inside one batch, and the range of keys that a merge compares. What does not: the
same rule as Spark column expressions (`merge_frames`).

The last write is the row with the greatest (event time, arrival, position in its input). Event time comes first, so
files may come in any order. On equal event times - usually a correction of the same transaction - the row that arrived
later wins, so arrival decides only where the data does not. Because the rule picks a maximum, the result does not
depend on the order of the rows, and applying it twice changes nothing.

A contract may name a column with the row's version instead of event time (`last_write`), or leave it to the arrival
alone; then the order in which files come decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import ROW_NUMBER
from mlops_assets.data.contract.contract import Contract


def last_writes(rows: pa.Table, contract: Contract, good: pa.ChunkedArray | None = None) -> pa.ChunkedArray | None:
    """Return which rows of one batch are kept: the good ones that no other good row of the batch replaces.

    Args:
        rows: Rows with `_row_number`.
        contract: Names the key; without one, all good rows are kept.
        good: Which rows meet the contract, one bool per row; None if all do.

    Returns:
        One bool per row, or None if all are kept.
    """
    if contract.key is None:
        return good
    versions = [] if contract.versioned_by is None else [contract.versioned_by]
    deciding = rows.select([contract.key, *versions, ROW_NUMBER])
    deciding = deciding if good is None else deciding.filter(good)
    if _all_differ(deciding.column(contract.key).combine_chunks()):
        return good
    order = pc.sort_indices(deciding, sort_keys=[(name, "ascending") for name in deciding.column_names])
    keys = deciding.column(contract.key).take(order).combine_chunks()
    following = pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(zero_copy_only=False)
    last = np.append(~following.astype(bool), np.ones(1, dtype=bool))
    candidates = np.arange(rows.num_rows) if good is None else np.flatnonzero(good.to_numpy())
    stays = np.zeros(rows.num_rows, dtype=bool)
    stays[candidates[order.to_numpy()[last]]] = True
    return pa.chunked_array([pa.array(stays)])


def key_range(rows: pa.Table, contract: Contract, chosen: pa.ChunkedArray | None = None) -> tuple[Any, Any] | None:
    """Return the smallest and largest key of the chosen rows, of all when None; None if the contract has no key."""
    if contract.key is None:
        return None
    keys = rows.column(contract.key)
    bounds = pc.min_max(keys if chosen is None else keys.filter(chosen)).as_py()
    return bounds["min"], bounds["max"]


def spanned(ranges: Iterable[tuple[Any, Any] | None]) -> tuple[Any, Any] | None:
    """Return the range of keys that several ranges span together; None if there is none."""
    found = [one for one in ranges if one is not None]
    return (min(low for low, _ in found), max(high for _, high in found)) if found else None


def _all_differ(keys: pa.Array) -> bool:
    """Return whether all keys are distinct; keys in ascending order, the usual case, need no count."""
    rising = pc.all(pc.greater(keys.slice(1), keys.slice(0, max(0, len(keys) - 1))), min_count=0).as_py()
    return rising or pc.count_distinct(keys).as_py() == len(keys)
