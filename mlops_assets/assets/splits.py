"""Train, validation and test set, split from one pinned version of the raw table.

What belongs here: the assets' specification, their configuration, and how a split is shown. What does not: splitting
(`lakehouse/split_sets`) and its rules (`data/splits`).
"""

from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.config_defaults import with_defaults
from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.reporting import check_results, check_specs, column_schema, known, refusal, rounded
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.data.columns import technical_columns
from mlops_assets.data.labels.maturity import LEFT_OUT
from mlops_assets.data.splits.split import GAP, SplitSpec
from mlops_assets.data.splits.split_checks import SPLIT_CHECKS
from mlops_assets.deployment import LAUNCH_POOL
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.split_sets import SET_TABLES, SPLIT_RULES, SplitReport, SplitRequest, split_tables
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import AS_OF, DELTA_VERSION, LATE_LABELS, RAW_DATA_VERSION, RAW_VERSION, ROW_COUNT, SPLIT_ID
from mlops_assets.resources.lakehouse import LakehouseResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.spec import FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.splits.split_checks import SetSummary

# The assets are named after their tables.
TABLES = SET_TABLES
SPLITS = "splits"
# The checks cover the three sets together; they belong to the last one, because everything downstream depends on it.
_CHECKED = TABLES["test"]


class Strategy(Enum):
    """How rows are divided."""

    time = "time"
    stratified = "stratified"


class SplitConfig(dg.Config):
    """How to split the raw table."""

    strategy: Strategy = Field(
        default=Strategy.time,
        description="time: train on the past, test on the future. stratified: at random by seed; its metrics are too "
        "optimistic.",
    )
    validation_fraction: float = Field(default=0.2, description="Share of rows in the validation block.")
    test_fraction: float = Field(default=0.2, description="Share of rows in the test block.")
    gap_days: float | None = Field(
        default=None, description="Days left out before each cut; the contract's label delay when not given."
    )
    seed: int = Field(default=42, description="Seed of the stratified split.")
    min_rows: int = Field(default=100, description="Minimum number of rows in a set.")
    raw_version: int | None = Field(default=None, description="Version of the raw table; the newest when not given.")
    as_of: str | None = Field(
        default=None,
        description="Moment to look back from, in ISO 8601 (UTC), or in seconds if the data has a clock of its own: "
        "what arrived or became known later does not count. The newest on record when not given.",
    )

    def to_spec(self, contract: "Contract") -> SplitSpec:
        """Return the specification for a contract."""
        by_contract = contract.label_delay_days if self.strategy is Strategy.time else 0.0
        return SplitSpec(
            strategy=self.strategy.value,
            validation_fraction=self.validation_fraction,
            test_fraction=self.test_fraction,
            gap_days=by_contract if self.gap_days is None else self.gap_days,
            seed=self.seed,
        )


def build_splits(spec: FraudModelSpec) -> dg.AssetsDefinition:
    """Return the assets of a model."""
    checked = key_of(spec, _CHECKED)
    form = with_defaults(SplitConfig, spec.split, where=f"split of model {spec.title}")

    @dg.multi_asset(
        name=spec.prefixed(SPLITS),
        group_name=spec.group,
        specs=[
            dg.AssetSpec(
                key_of(spec, table),
                deps=[key_of(spec, RAW)],
                kinds={"deltalake", "spark"},
                tags=stage_tag("splits"),
                code_version=f"{SPLIT_RULES}-{spec.contract.fingerprint}",
                owners=list(spec.owners),
                description=f"Delta table with the {name} rows, cut from one pinned version of {RAW}.",
            )
            for name, table in TABLES.items()
        ],
        check_specs=check_specs(SPLIT_CHECKS, checked),
        pool=LAUNCH_POOL,
    )
    @asset_shell(spec, runner="loader_cluster", config=form)
    def splits(
        context: dg.AssetExecutionContext,
        config: SplitConfig,
        lakehouse: LakehouseResource,
        loader_cluster: StepLauncherResource,
    ) -> Results:
        """Split the raw table; the same split of the same version is not written again."""
        contract, database = spec.contract, lakehouse.open(spec)
        request = SplitRequest(config.to_spec(contract), config.min_rows, config.raw_version, config.as_of)
        report = split_tables(database, contract, request, dagster_run=context.op_execution_context.run_id)
        refused = refusal(
            report.outcomes, what=f"{RAW} version {report.raw.version} can't be split; nothing was written"
        )
        if refused is not None and not report.tables:
            yield from check_results(report.outcomes, checked)
            raise refused
        context.log.info(f"split {report.split_id} of {RAW} version {report.raw.version}")
        for name, table in TABLES.items():
            yield dg.MaterializeResult(
                asset_key=key_of(spec, table),
                metadata=_metadata(report, name, database, contract),
                data_version=dg.DataVersion(report.split_id),
            )
        yield from check_results(report.outcomes, checked)

    return splits


def _metadata(report: SplitReport, name: str, lakehouse: Lakehouse, contract: "Contract") -> dict[str, Any]:
    """Return the metadata that pins and describes one set."""
    table, summary = report.tables[name], report.summaries[name]
    return {
        "table": dg.MetadataValue.url(lakehouse.url(table.name)),
        DELTA_VERSION: table.version,
        "raw_table": RAW,
        RAW_VERSION: report.raw.version,
        RAW_DATA_VERSION: lakehouse.data_version(report.raw),
        SPLIT_ID: report.split_id,
        "strategy": report.spec.strategy,
        ROW_COUNT: summary.rows,
        "frauds": summary.frauds,
        "fraud_rate": rounded(summary.fraud_rate),
        **known(
            first_event=_event_time(summary.first, contract),
            last_event=_event_time(summary.last, contract),
        ),
        "gap_days": report.spec.gap_days,
        "gap_rows": report.rows.get(GAP, 0),
        **{f"{reason}_rows": report.rows.get(reason, 0) for reason in LEFT_OUT},
        **{f"{reason}_frauds": report.frauds.get(reason, 0) for reason in LEFT_OUT},
        "frauds_known_later": report.frauds_known_later.get(name, 0),
        **_label_ages(report, summary, contract),
        "dagster/column_schema": column_schema(contract, technical_columns(contract)),
    }


def _label_ages(report: SplitReport, summary: "SetSummary", contract: "Contract") -> dict[str, Any]:
    """Return the label ages of a set; empty if labels do not age."""
    if report.maturity is None:
        return {}
    youngest, middle = summary.youngest_label_days, summary.label_age_days
    return {
        AS_OF: _event_time(report.maturity.as_of, contract),
        "label_delay_days": report.maturity.delay_days,
        LATE_LABELS: summary.late_labels,
        **known(
            youngest_label_days=None if youngest is None else rounded(youngest),
            label_age_days=None if middle is None else rounded(middle),
        ),
    }


def _event_time(seconds: float | None, contract: "Contract") -> dg.MetadataValue | float | None:
    dated = contract.column(contract.event_time).type == "timestamp"
    return dg.MetadataValue.timestamp(seconds) if dated and seconds is not None else seconds
