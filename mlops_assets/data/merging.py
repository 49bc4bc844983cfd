"""Which of several rows with one key is the one that stays: the last write.

What belongs here: the rule, and its use inside one batch. What does not: the same rule over tables (`merge_frames`).

The last write is the row with the greatest (event time, arrival, position in its input). Event time comes first, so
that files may come in any order; on equal event times - a correction of the same transaction, usually - the row that
came in later wins, so that arrival decides only where the data do not. Since it is a greatest element, the outcome does
not depend on the order in which rows are looked at, and looking twice changes nothing.
"""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.conform import ROW_NUMBER
from mlops_assets.data.contract import Contract


def last_writes(rows: pa.Table, contract: Contract) -> pa.Table:
    """Return the rows of one batch without those that another row of the batch replaces.

    Args:
        rows: Rows that keep the contract, with `_row_number`.
        contract: Says what the key is; without one, all rows stay.

    Returns:
        The rows that stay, in their order.
    """
    if contract.key is None or pc.count_distinct(rows.column(contract.key)).as_py() == rows.num_rows:
        return rows
    order = pc.sort_indices(
        rows, sort_keys=[(name, "ascending") for name in (contract.key, contract.event_time, ROW_NUMBER)]
    )
    keys = rows.column(contract.key).take(order).combine_chunks()
    following = pc.equal(keys.slice(1), keys.slice(0, len(keys) - 1)).to_numpy(zero_copy_only=False)
    last = np.append(~following.astype(bool), np.ones(1, dtype=bool))
    return rows.take(pa.array(np.sort(order.to_numpy()[last])))
