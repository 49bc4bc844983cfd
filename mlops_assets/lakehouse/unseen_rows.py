"""Which rows of a test set an earlier model has not seen: later than what it was trained on, and not among it.

What belongs here: finding the rows that a model was trained on again, and marking the others. What does not: comparing
models on them (`registry`), which rows a production model is fitted on (`mature_rows`).

A model has seen the rows that its trees, its point and its threshold come from. Later rows may resemble these (the next
fraud of a card), but that is how it will be in service; earlier ones that arrived late could only flatter one of two
models.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.mature_rows import mature_now
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lineage import SPLIT_ID

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse

UNSEEN = "_unseen"


def trained_on(
    lakehouse: Lakehouse, contract: Contract, sets: Mapping[str, int], split_id: str, *, production: bool
) -> DataFrame:
    """Return the rows that a model was trained on, with the contract's and the platform's columns.

    Args:
        lakehouse: The database.
        contract: Names and roles of the columns.
        sets: Versions of the sets that it was made from, by the name of the table.
        split_id: The split that they come from.
        production: Whether it was fitted again on all rows with a mature label; otherwise it has seen the training and
            the validation set.

    Raises:
        StorageError: The tables do not have these versions any more.
    """
    if not production:
        train, validation = (lakehouse.read(SET_TABLES[n], sets[SET_TABLES[n]]) for n in ("train", "validation"))
        return train.unionByName(validation)
    name = SET_TABLES["test"]
    metadata = lakehouse.commit_metadata_since(name, sets[name] - 1)
    if not metadata or metadata[0].get(SPLIT_ID) != split_id:
        raise StorageError(
            f"the commit of version {sets[name]} is not on record any more",
            where=lakehouse.location(name),
            fix="delete the alias of the model that was made from it",
        )
    return mature_now(lakehouse, contract, TableVersion(name, sets[name], metadata[0]))


def with_unseen(test: DataFrame, seen: DataFrame, contract: Contract) -> DataFrame:
    """Return the test rows with a column that says whether a model has not seen them.

    Rows are compared by the contract's key, or by batch id and row number where there is none.

    Args:
        test: The test rows, with the platform's columns.
        seen: What the model was trained on.
        contract: Key and event time.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.labels.maturity_frames import event_seconds

    time = event_seconds(contract)
    (last,) = seen.agg(F.max(time)).collect()[0]
    later = test.withColumn(UNSEEN, F.lit(True) if last is None else time > F.lit(last))
    place = [BATCH_ID, ROW_NUMBER] if contract.key is None else [contract.key]
    known = seen.select(*place).distinct().withColumn("_known", F.lit(True))
    marked = later.join(known, place, "left")
    return marked.withColumn(UNSEEN, F.col(UNSEEN) & F.col("_known").isNull()).drop("_known")
