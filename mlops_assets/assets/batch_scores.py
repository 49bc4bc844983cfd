"""Batch scores as an asset: the champion's verdict on each row of a table, once.

What belongs here: the asset's spec, its config, and how a run's report is shown. What does not: which rows have no
score (`lakehouse/score_table`), scoring (`serving/tables`), when it runs (`automation/conditions`).
"""

from typing import TYPE_CHECKING

import dagster as dg
from pydantic import Field

from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lakehouse.score_table import SCORES
from mlops_assets.lineage import DAGSTER_RUN, DELTA_VERSION, MODEL_URI, RAW_DATA_VERSION, ROW_COUNT
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.score_table import Scored

# The asset is named after its table.
BATCH_SCORES = SCORES
# What a spec says for the rows of the raw table.
OF_RAW = "raw"
_MOST_REASONS = 20


class BatchScoresConfig(dg.Config):
    """What is scored, and what is written beside the scores."""

    reasons: int = Field(
        default=0,
        ge=0,
        le=_MOST_REASONS,
        description="Features to name for each row, the ones that drove its score; they cost many times a score.",
    )
    again: bool = Field(
        default=False, description="Score every row that the champion has not scored, also if another version has."
    )


def build_batch_scores(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the asset of a model that says whose rows are scored."""
    key = key_of(spec, BATCH_SCORES)
    place = (spec.batch_scores or "").removeprefix("delta:")
    of_raw = place == OF_RAW

    @dg.asset(
        key=key,
        deps=[*([key_of(spec, RAW)] if of_raw else []), key_of(spec, REGISTERED_MODEL)],
        group_name=spec.group,
        tags=stage_tag("serving"),
        kinds={"deltalake", "spark"},
        owners=list(spec.owners),
        description=(
            "Delta table with score, decision, version and policy of each row, by the version that was champion when "
            "the row was new; a row has one score of a version."
        ),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster", lock=SCORES)
    def batch_scores(
        context: dg.AssetExecutionContext,
        config: BatchScoresConfig,
        lakehouse: LakehouseResource,
        tracking: Tracking,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Score the rows that have no score, and append them in one commit."""
        from mlops_assets.lakehouse.score_table import Scoring, append_scores, kept_columns
        from mlops_assets.serving.bundle import unpack
        from mlops_assets.serving.from_registry import Source, champion_of, packed
        from mlops_assets.serving.tables import BatchScorer, require_features

        contract, database = spec.contract, lakehouse.open(spec)
        source = Source(tracking.connect(spec.experiment), tracking.model(spec.registered_model), contract)
        version = champion_of(source)
        bundle = packed(source, version)
        # Before Spark starts: a version that does not score as it was trained scores nothing.
        fix = "make another version champion"
        champion = unpack(bundle, contract.features, where=f"{version.name} version {version.number}", fix=fix)
        table = _rows(spec, database, place, of_raw=of_raw)
        require_features(table.rows.columns, contract, where=table.name)
        report = append_scores(
            database,
            table,
            Scoring(
                version.name,
                version.number,
                champion.policy.threshold,
                champion.policy.version,
                BatchScorer(bundle, contract, kept_columns(table, contract), config.reasons),
            ),
            contract,
            {DAGSTER_RUN: context.op_execution_context.run_id},
            again=config.again,
        )
        context.log.info(f"{report.rows:,} rows of {table.name} scored with version {version.number}")
        yield dg.MaterializeResult(
            asset_key=key,
            metadata={
                "table": dg.MetadataValue.url(database.url(SCORES)),
                DELTA_VERSION: report.table.version,
                ROW_COUNT: database.read(SCORES, report.table.version).count(),  # from the log of the table
                "scored": table.name,
                RAW_DATA_VERSION: table.data_version,
                MODEL_URI: f"models:/{version.name}/{version.number}",
                "version": version.number,
                "policy": champion.policy.version,
                "rows_added": report.rows,
                "alerts": report.alerts,
                "rows_that_break_the_contract": report.broken,
            },
            data_version=dg.DataVersion(database.data_version(report.table)),
        )

    return batch_scores


def _rows(spec: FraudModelSpec, database: "Lakehouse", place: str, *, of_raw: bool) -> "Scored":
    from mlops_assets.data.sources.locations import shown
    from mlops_assets.lakehouse.score_table import raw_rows, rows_of

    return raw_rows(database) if of_raw else rows_of(database, place, shown(place), spec.contract)
