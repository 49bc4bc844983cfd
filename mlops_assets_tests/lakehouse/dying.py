"""A process that ends between two commits.

What belongs here: ending it. What does not: what should be left then.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse

# Decides by table, written columns and metadata of a commit.
Kind = Callable[[str, Sequence[str], Mapping[str, Any]], bool]


class Killed(BaseException):
    """Stands for the end of the process; no code of the platform may catch it."""


def dying(lakehouse: Lakehouse, after: Kind) -> Lakehouse:
    """Return the lakehouse of a process that is killed after the first commit of that kind."""

    class Dying(Lakehouse):
        def _commit(
            self,
            name: str,
            columns: Sequence[str],
            write: Callable[[int, str], None],
            *,
            base: TableVersion | None,
            metadata: Mapping[str, Any],
        ) -> TableVersion:
            written = super()._commit(name, columns, write, base=base, metadata=metadata)
            if after(name, columns, metadata):
                raise Killed
            return written

    return Dying(spark=lakehouse.spark, database=lakehouse.database, root=lakehouse.root, locks=lakehouse.locks)
