"""The raw Delta table: every accepted row, once.

What belongs here: the asset's shell - source in, checks, one commit, metadata. What does not: reading and judging rows
(`data/`), committing (`resources/lakehouse`).
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.reporting import (
    OWNERS,
    check_results,
    check_specs,
    column_schema,
    preview,
    readable_errors,
    refusal,
    rounded,
)
from mlops_assets.data.validation import RAW_CHECKS, judge_load
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.lakehouse import Lakehouse, StaleBaseError, TableVersion
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.sources import TransactionSourceResource
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from pathlib import Path

    from pyspark.sql import DataFrame

    from mlops_assets.data.contract import Contract
    from mlops_assets.data.ingest import StagedLoad

RAW = "raw_transactions"
_ATTEMPTS = 5


@dg.asset(
    name=RAW,
    group_name="ingest",
    kinds={"deltalake", "spark"},
    owners=OWNERS,
    description=(
        "Append-only Delta table of all accepted transactions. Each input is identified by its content: loading it "
        "again adds nothing. A load that breaks the data contract is refused whole."
    ),
    check_specs=check_specs(RAW_CHECKS, RAW),
    pool=LAUNCH_POOL,
)
def raw_transactions(
    context: dg.AssetExecutionContext,
    source: TransactionSourceResource,
    contract: ContractResource,
    lakehouse: Lakehouse,
    loader_cluster: StepLauncherResource,
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Load what the source holds and the table does not."""
    if runner := loader_cluster.pipes(context):
        yield from runner.run(context)
        return
    with readable_errors():
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                with lakehouse.exclusive(RAW):
                    yield from _load(context, source, contract.load(), lakehouse)
            except StaleBaseError:
                context.log.info(f"another writer was faster (attempt {attempt} of {_ATTEMPTS}): looking again")
            else:
                return
    raise dg.Failure(f"{RAW} changed under {_ATTEMPTS} attempts to append: fewer writers, then run again")


def _load(
    context: dg.AssetExecutionContext, source: TransactionSourceResource, contract: "Contract", lakehouse: Lakehouse
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    from mlops_assets.data.ingest import stage_load

    base = lakehouse.current(RAW)
    known, classes = _known(lakehouse, base, contract)
    with lakehouse.staging(RAW) as folder:
        load = stage_load(source.open(), contract, folder, known)
        outcomes = judge_load(load.findings, contract, classes)
        origins = [*load.new.values(), *load.known]
        if refused := refusal(outcomes, what=f"refused {', '.join(origins)}; nothing was written"):
            yield from check_results(outcomes, RAW)
            raise refused
        if load.new:
            note = {
                "batches": len(load.new),
                "contract": contract.fingerprint,
                "dagster_run": context.op_execution_context.run_id,
            }
            written = lakehouse.append(RAW, _rows(lakehouse, folder, contract), base=base, note=note)
            context.log.info(f"{load.new_rows:,} rows from {len(load.new)} inputs: version {written.version}")
        else:
            written = lakehouse.require(RAW, made_by=RAW)
            context.log.info(f"nothing new: the table holds {', '.join(load.known)} already")
        yield dg.MaterializeResult(asset_key=RAW, metadata=_metadata(lakehouse, written, contract, load))
        yield from check_results(outcomes, RAW)


def _known(
    lakehouse: Lakehouse, base: TableVersion | None, contract: "Contract"
) -> tuple[frozenset[str], dict[int, int]]:
    """Return the batch ids that the table holds, and its rows per class."""
    from mlops_assets.data.ingest import BATCH_ID

    if base is None:
        return frozenset(), {}
    lakehouse.require_columns(base, [BATCH_ID, contract.target])
    counted = lakehouse.read(RAW, base.version).groupBy(BATCH_ID, contract.target).count().collect()
    classes: dict[int, int] = {}
    for row in counted:
        classes[row[contract.target]] = classes.get(row[contract.target], 0) + int(row["count"])
    return frozenset(row[BATCH_ID] for row in counted), classes


def _rows(lakehouse: Lakehouse, folder: "Path", contract: "Contract") -> "DataFrame":
    """Return the staged rows as the table's columns, each with its description as the column's comment."""
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.ingest import INGESTED_AT, TECHNICAL_COLUMNS
    from mlops_assets.resources.tables import spark_path

    comments = {column.name: column.description for column in contract.columns} | TECHNICAL_COLUMNS
    staged = lakehouse.spark.session.read.parquet(spark_path(folder)).withColumn(INGESTED_AT, F.current_timestamp())
    return staged.select([F.col(name).alias(name, metadata={"comment": text}) for name, text in comments.items()])


def _metadata(
    lakehouse: Lakehouse, table: TableVersion, contract: "Contract", load: "StagedLoad"
) -> dict[str, dg.MetadataValue[Any] | dg.TableSchema | str | int | float]:
    from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

    from mlops_assets.data.ingest import TECHNICAL_COLUMNS

    rows = lakehouse.read(RAW, table.version)
    total, frauds = rows.agg(F.count(F.lit(1)), F.sum(contract.target)).collect()[0]
    return {
        "table": lakehouse.location(RAW),
        "delta_version": table.version,
        "rows_added": load.new_rows,
        "dagster/row_count": int(total),
        "frauds": int(frauds),
        "fraud_rate": rounded(frauds / total),
        "contract": f"{contract.name} v{contract.version} ({contract.fingerprint})",
        "inputs_added": dg.MetadataValue.json(sorted(load.new.values())),
        "inputs_already_known": dg.MetadataValue.json(sorted(load.known)),
        "preview": preview(rows.select(*contract.column_names).limit(5).toArrow()),
        "dagster/column_schema": column_schema(contract, TECHNICAL_COLUMNS),
    }
