"""The table of batch scores: each row once for a version of the model, in one commit per run.

What belongs here: which rows have no score yet, and appending theirs. What does not: scoring (`serving/tables`, whose
function runs on Spark's executors here), which version is champion, the raw table (`transactions`).

A row is named by its batch and its position, as in the raw table. A row of another table has the hash of the table and
its key in place of the batch. The rows without a score are found by reading the scores at one version; their commit
carries the transaction number that follows it (`commits`). So of two runs that found the same rows only one commits,
and a killed run has written all of its scores or none. No row passes through the driver.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.ingest.manifest import LOAD
from mlops_assets.errors import SourceError, TrackingError
from mlops_assets.lakehouse.catalog_errors import spark_errors
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.tables import spark_path
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import RAW_DATA_VERSION, RECORDS, SCORED_AGAIN, SCORED_TABLE

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse

SCORES: Final = "batch_scores"
MODEL, VERSION, SCORED_AT = "model", "version", "scored_at"
_PLACE: Final = (BATCH_ID, ROW_NUMBER)
_SCORED: Final = {"score": "double", "decision": "string", "reasons": "array<string>", "findings": "array<string>"}
# Kinds of records that bring no rows.
_WITHOUT_ROWS: Final = ("labels", "contract")


@dataclass(frozen=True)
class Scoring:
    """What scores rows, as the table of scores tells it.

    Attributes:
        model: Name of the registered model.
        version: Its version.
        threshold: From this score on, a row is for review.
        policy: Version of the policy.
        function: Scores Arrow batches on an executor: the place, the contract's key and entity if the table has them,
            and the features in; the same without the features, then `score`, `decision`, `reasons`, `findings` out.
    """

    model: str
    version: int
    threshold: float
    policy: str
    function: Callable[[Iterable[pa.RecordBatch]], Iterator[pa.RecordBatch]]


@dataclass(frozen=True)
class ScoreReport:
    """What a run has written.

    Attributes:
        table: The scores afterwards.
        rows: Rows that got a score or a finding.
        alerts: Rows among them that are not approved.
        broken: Rows among them that break the contract, and have no score.
    """

    table: TableVersion
    rows: int = 0
    alerts: int = 0
    broken: int = 0


@dataclass(frozen=True)
class Scored:
    """A table whose rows are scored.

    Attributes:
        name: What the scores call it.
        data_version: What identifies its rows.
        rows: Its rows, with `_batch_id` and `_row_number`.
        of_batches: Whether `_batch_id` names batches of the raw table.
    """

    name: str
    data_version: str
    rows: DataFrame
    of_batches: bool = True


def raw_rows(lakehouse: Lakehouse) -> Scored:
    """Return the newest version of the raw table.

    Raises:
        StorageError: There is none.
    """
    raw = lakehouse.require(RAW, made_by=RAW)
    return Scored(RAW, lakehouse.data_version(raw), lakehouse.read(RAW, raw.version))


def rows_of(lakehouse: Lakehouse, place: str, shown: str, contract: Contract) -> Scored:
    """Return the newest version of any Delta table.

    Args:
        lakehouse: Gives the session.
        place: Folder or URL of the table.
        shown: The same without credentials.
        contract: Its key names the rows.

    Raises:
        SourceError: There is no such table, or it has no column for the key.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    path = spark_path(place)
    try:
        reader = lakehouse.session.read.format("delta")
        (last,) = lakehouse.session.sql(f"DESCRIBE HISTORY delta.{quoted(path)} LIMIT 1").select("version").collect()
        (detail,) = lakehouse.session.sql(f"DESCRIBE DETAIL delta.{quoted(path)}").select("id").collect()
        rows = reader.option("versionAsOf", last["version"]).load(path)
    except spark_errors() as error:
        why = str(error).partition("\n")[0]
        raise SourceError(f"the table can't be read: {why}", where=shown, fix="check the place in the spec") from None
    key = contract.key
    if key is None or key not in rows.columns:
        raise SourceError(
            f"rows have no name: there is no column for the contract's key ({key})",
            where=shown,
            fix="add the key to the table, and to the contract if it has none",
        )
    named = F.sha2(F.concat_ws("\n", F.lit(shown), F.col(key).cast("string")), 256)
    rows = rows.withColumn(BATCH_ID, named).withColumn(ROW_NUMBER, F.lit(0).cast("long"))
    return Scored(shown, f"{last['version']}-{detail['id']}", rows, of_batches=False)


def kept_columns(table: Scored, contract: Contract) -> tuple[str, ...]:
    """Return the columns that scored rows keep: their place, and the contract's key and entity if they have them."""
    of_contract = [name for name in (contract.key, contract.entity) if name is not None and name in table.rows.columns]
    return (*_PLACE, *of_contract)


def append_scores(
    lakehouse: Lakehouse,
    table: Scored,
    scoring: Scoring,
    contract: Contract,
    metadata: Mapping[str, Any],
    *,
    again: bool = False,
) -> ScoreReport:
    """Score the rows of a table that have no score, and append them in one commit.

    Hold `lakehouse.exclusive(SCORES)` around it.

    Args:
        lakehouse: The database with the scores.
        table: The rows.
        scoring: What scores them.
        contract: Names the features, key and entity; the table has the features.
        metadata: Metadata of the commit.
        again: Whether a score by another version does not count.

    Raises:
        StaleBaseError: Someone else has written scores since; nothing was written.
        TrackingError: The version does not score on an executor as it was trained.
        StorageError: The platform did not create the table of scores.
    """
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    base = lakehouse.current(SCORES)
    asked = {SCORED_TABLE: table.name, RAW_DATA_VERSION: table.data_version, SCORED_AGAIN: scoring.version * again}
    if base is not None and asked.items() <= base.metadata.items():
        return ScoreReport(base)
    kept = kept_columns(table, contract)
    rows = _without_score(lakehouse, table, base, scoring if again else None)
    rows = rows.select(*dict.fromkeys((*kept, *contract.features)))
    types = {name: rows.schema[name].dataType.simpleString() for name in kept} | _SCORED
    schema = ", ".join(f"{quoted(name)} {kind}" for name, kind in types.items())
    at = F.lit(datetime.now(UTC))
    scored = (
        rows.mapInArrow(scoring.function, schema)
        .withColumn("threshold", F.lit(scoring.threshold))
        .withColumn("policy", F.lit(scoring.policy))
        .withColumn(MODEL, F.lit(scoring.model))
        .withColumn(VERSION, F.lit(scoring.version).cast("long"))
        .withColumn(SCORED_TABLE, F.lit(table.name))
        .withColumn(SCORED_AT, at)
    )
    try:
        written = lakehouse.append(
            SCORES,
            scored,
            base=base,
            metadata={**metadata, **asked},
            new_columns=True,
            skip_by=(*kept, SCORED_AT),
        )
    except spark_errors() as error:
        raise (_of_executor(error) or error) from None
    if not written.rows_written:
        return ScoreReport(written)
    (counted,) = (
        lakehouse.read(SCORES, written.version)
        .where(F.col(SCORED_AT) == at)
        .agg(F.count(F.lit(1)), F.count_if(F.col("decision") != "approve"), F.count_if(F.col("score").isNull()))
        .collect()
    )
    return ScoreReport(written, *(int(count) for count in counted))


def _without_score(lakehouse: Lakehouse, table: Scored, scores: TableVersion | None, by: Scoring | None) -> DataFrame:
    """Return the rows without a score; with a version, without one by that version."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    rows = table.rows
    if scores is None:
        return rows
    known = lakehouse.read(SCORES, scores.version)
    if by is not None:
        known = known.where((F.col(VERSION) == by.version) & (F.col(MODEL) == by.model))
    elif table.of_batches and (new := _new_batches(lakehouse, scores, table)) is not None:
        # The batches are in few groups of rows of a file; Parquet lets Spark pass the others over.
        rows, known = (found.where(F.col(BATCH_ID).isin(new)) for found in (rows, known))
    return rows.join(known.select(*_PLACE), list(_PLACE), "left_anti").select(*rows.columns)


def _new_batches(lakehouse: Lakehouse, scores: TableVersion, table: Scored) -> list[str] | None:
    """Return the batches that the raw table got since it was last scored; None if its log does not say that."""
    before = scores.metadata
    since, _, identity = str(before.get(RAW_DATA_VERSION, "")).partition("-")
    if before.get(SCORED_TABLE) != RAW or before.get(SCORED_AGAIN) or not table.data_version.endswith(f"-{identity}"):
        return None
    if min(lakehouse.commits(RAW)) > int(since) or lakehouse.foreign_operations_since(RAW, int(since)):
        return None
    batches = []
    for metadata in lakehouse.commit_metadata_since(RAW, int(since)):
        for record in metadata.get(RECORDS, ()):
            if record["kind"] == LOAD:
                batches.append(record["batch_id"])
            elif record["kind"] not in _WITHOUT_ROWS:
                return None  # what a replay or a revert brings back has the names of older batches
    return batches


def _of_executor(error: Exception) -> TrackingError | None:
    """Return what our own code refused on an executor; None for any other error of Spark's."""
    found = re.search(r"mlops_assets\.errors\.TrackingError: (.*) \[(.*)\] Fix: (.*)", str(error))
    return None if found is None else TrackingError(found[1], where=found[2], fix=found[3])
