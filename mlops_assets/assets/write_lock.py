"""Writers of one table, one after the other.

What belongs here: what the assets do when another writer is faster. What does not: how that is noticed (`resources`).
"""

from collections.abc import Callable, Iterator

import dagster as dg

from mlops_assets.lakehouse.lakehouse import Lakehouse, StaleBaseError

Results = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]
_ATTEMPTS = 5


def with_write_lock(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, table: str, write: Callable[[], Results]
) -> Results:
    """Yield what a write yields, when no other writer is at the table; look and write again if one was faster.

    Args:
        context: For the log.
        lakehouse: Where the table is.
        table: Its name.
        write: Looks at the table, and commits what it chose by that look.

    Raises:
        dg.Failure: Others were faster each time.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with lakehouse.exclusive(table):
                yield from write()
        except StaleBaseError:
            context.log.info(f"another writer was faster (attempt {attempt} of {_ATTEMPTS}): looking again")
        else:
            return
    raise dg.Failure(f"{table} changed under {_ATTEMPTS} attempts to write: fewer writers, then run again")
