"""Train, validation and test set, cut from one pinned version of the raw table.

What belongs here: the asset's shell - configuration in, three commits, checks, metadata - and how later stages find
sets that belong together. What does not: where to cut (`data/splits`), Delta (`lakehouse`).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.reporting import (
    OWNERS,
    check_results,
    check_specs,
    column_schema,
    refusal,
    rounded,
)
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.data.labels.maturity import LEFT_OUT
from mlops_assets.data.splits.split import GAP, SET_NAMES, SplitSpec
from mlops_assets.data.splits.split_checks import SPLIT_CHECKS
from mlops_assets.errors import SplitError, StorageError
from mlops_assets.lakehouse.commits import StaleBaseError, TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.settings import LAUNCH_POOL

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.labels.maturity import Maturity
    from mlops_assets.data.splits.split_checks import SetSummary

TABLES = {name: f"{name}_set" for name in SET_NAMES}
SETS_LOCK = "splits"
# The checks are about the three sets together; they stand on the last one, on which everything downstream depends.
_CHECKED = TABLES["test"]


class Strategy(Enum):
    """How rows are divided."""

    time = "time"
    stratified = "stratified"


class SplitConfig(dg.Config):
    """How to cut the raw table."""

    strategy: Strategy = Field(
        default=Strategy.time,
        description="time: train on the past, test on the future. stratified: at random by seed; its figures flatter.",
    )
    validation_fraction: float = Field(default=0.2, description="Share of rows in the validation block.")
    test_fraction: float = Field(default=0.2, description="Share of rows in the test block.")
    gap_days: float | None = Field(
        default=None, description="Days left out before each cut; the contract's label delay when not given."
    )
    seed: int = Field(default=42, description="Seed of the stratified split.")
    min_rows: int = Field(default=100, description="Fewest rows that a set may have.")
    raw_version: int | None = Field(default=None, description="Version of the raw table; the newest when not given.")
    as_of: str | None = Field(
        default=None,
        description="Moment from which labels are seen as mature or not, in ISO 8601 (UTC), or in seconds where the "
        "data have a clock of their own; the newest moment that the raw table has on record when not given.",
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


@dg.multi_asset(
    name="splits",
    group_name="splits",
    specs=[
        dg.AssetSpec(
            table,
            deps=[RAW],
            kinds={"deltalake", "spark"},
            owners=OWNERS,
            description=f"Delta table with the {name} rows, cut from one pinned version of {RAW}.",
        )
        for name, table in TABLES.items()
    ],
    check_specs=check_specs(SPLIT_CHECKS, _CHECKED),
    pool=LAUNCH_POOL,
)
@asset_shell(runner="loader_cluster")
def splits(
    context: dg.AssetExecutionContext,
    config: SplitConfig,
    contract: ContractResource,
    lakehouse: dg.ResourceParam[Lakehouse],
    loader_cluster: StepLauncherResource,
) -> Results:
    """Cut the raw table; the same cut of the same version is not written again."""
    definition = contract.load()
    with lakehouse.exclusive(SETS_LOCK):
        cut = _Cut.plan(config, definition, lakehouse)
        outcomes = cut.refuse_early()
        if refused := refusal(outcomes, what=f"{RAW} version {cut.raw.version} can't be split; nothing was written"):
            yield from check_results(outcomes, _CHECKED)
            raise refused
        try:
            written = cut.write(context.op_execution_context.run_id)
        except StaleBaseError:
            raise StorageError(
                "someone else wrote the sets at the same time", where="splits", fix="run again"
            ) from None
        outcomes, summaries = cut.verify(written)
    context.log.info(f"split {cut.split_id} of {RAW} version {cut.raw.version}")
    for name, table in TABLES.items():
        yield dg.MaterializeResult(asset_key=table, metadata=cut.metadata(written[name], summaries[name]))
    yield from check_results(outcomes, _CHECKED)


@dataclass(frozen=True)
class _Cut:
    """One cut of one version of the raw table."""

    config: SplitConfig
    spec: SplitSpec
    contract: "Contract"
    lakehouse: Lakehouse
    raw: TableVersion
    maturity: "Maturity | None"
    assigned: "DataFrame"
    summaries: "Mapping[str, SetSummary]"

    @classmethod
    def plan(cls, config: SplitConfig, contract: "Contract", lakehouse: Lakehouse) -> "_Cut":
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.columns import SET_COLUMN
        from mlops_assets.data.labels.maturity import parse_as_of
        from mlops_assets.data.labels.maturity_frames import left_out, maturity_of
        from mlops_assets.data.splits.split_frames import assign_sets, summarize

        as_of = None if config.as_of is None else parse_as_of(config.as_of, contract)
        raw = lakehouse.require(RAW, made_by=RAW)
        if config.raw_version is not None:
            raw = TableVersion(RAW, config.raw_version, {})
        spec = config.to_spec(contract)
        rows = lakehouse.read(RAW, raw.version)
        maturity = maturity_of(rows, contract, as_of)
        where = f"{RAW} version {raw.version}"
        try:
            assigned = assign_sets(rows, contract, spec, maturity, where=where)
        except SplitError as error:
            waiting = rows.where(left_out(rows, contract, maturity).isNotNull()).count()
            if not waiting:
                raise
            raise SplitError(
                f"{error.what}; {waiting:,} more rows have no mature label",
                where=error.where,
                fix=f"{error.fix}; labels mature with time, or as they come in",
            ) from None
        # The compacted files are read, and the cut is that of the rows: upkeep is no reason to cut anew.
        raw = raw.named_by_rows
        summaries = summarize(assigned, contract, F.col(SET_COLUMN))
        return cls(config, spec, contract, lakehouse, raw, maturity, assigned, summaries)

    @property
    def split_id(self) -> str:
        """Names the cut: equal for the same rows cut the same way."""
        says = {"raw_version": self.raw.version, "contract": self.contract.fingerprint, **self.spec.as_dict()}
        if self.maturity is not None:
            says["as_of"] = self.maturity.as_of
        text = json.dumps(says, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def refuse_early(self) -> "list[CheckOutcome]":
        """Judge the sets before anything is written."""
        return self._judge(self.summaries, shared=0)

    def write(self, dagster_run: str) -> dict[str, TableVersion]:
        """Write the sets that are not this cut already, and return all three."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.columns import SET_COLUMN

        written = {}
        for name, table in TABLES.items():
            present = self.lakehouse.current(table)
            if present is not None and present.metadata.get("split_id") == self.split_id:
                written[name] = present.named_by_rows
                continue
            rows = self.assigned.where(F.col(SET_COLUMN) == name).drop(SET_COLUMN)
            metadata = {"split_id": self.split_id, "raw_version": self.raw.version, "dagster_run": dagster_run}
            metadata |= {
                "spec": self.spec.as_dict(),
                "as_of": None if self.maturity is None else self.maturity.as_of,
            }
            written[name] = self.lakehouse.replace(table, rows, base=present, metadata=metadata)
        return written

    def verify(self, written: Mapping[str, TableVersion]) -> "tuple[list[CheckOutcome], dict[str, SetSummary]]":
        """Judge the sets as they stand in the tables."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.columns import SET_COLUMN
        from mlops_assets.data.splits.split_frames import count_shared, summarize, union_of

        rows = union_of({name: self.lakehouse.read(table.name, table.version) for name, table in written.items()})
        summaries = summarize(rows, self.contract, F.col(SET_COLUMN), self.maturity)
        return self._judge(summaries, shared=count_shared(rows, self.contract)), summaries

    def _judge(self, summaries: "Mapping[str, SetSummary]", *, shared: int) -> "list[CheckOutcome]":
        from mlops_assets.data.splits.split_checks import judge_sets

        return judge_sets(
            summaries,
            raw_rows=sum(summary.rows for summary in self.summaries.values()),
            gap_rows=self._rows_of(GAP),
            left_out={reason: self._rows_of(reason) for reason in LEFT_OUT},
            shared=shared,
            spec=self.spec,
            min_rows=self.config.min_rows,
        )

    def metadata(
        self, table: TableVersion, summary: "SetSummary"
    ) -> dict[str, dg.MetadataValue[Any] | dg.TableSchema | str | int | float]:
        """Return what pins and describes one set."""
        from mlops_assets.data.columns import technical_columns

        return {
            "table": self.lakehouse.location(table.name),
            "delta_version": table.version,
            "raw_table": RAW,
            "raw_version": self.raw.version,
            "split_id": self.split_id,
            "strategy": self.spec.strategy,
            "dagster/row_count": summary.rows,
            "frauds": summary.frauds,
            "fraud_rate": rounded(summary.fraud_rate),
            "first_event": _event_time(summary.first, self.contract),
            "last_event": _event_time(summary.last, self.contract),
            "gap_days": self.spec.gap_days,
            "gap_rows": self._rows_of(GAP),
            **{f"{reason}_rows": self._rows_of(reason) for reason in LEFT_OUT},
            **self._label_ages(summary),
            "dagster/column_schema": column_schema(self.contract, technical_columns(self.contract)),
        }

    def _label_ages(self, summary: "SetSummary") -> dict[str, dg.MetadataValue[Any] | int | float]:
        """Return how old the labels of a set are; nothing where labels do not age."""
        if self.maturity is None:
            return {}
        youngest, middle = summary.youngest_label_days, summary.label_age_days
        return {
            "as_of": _event_time(self.maturity.as_of, self.contract),
            "label_delay_days": self.maturity.delay_days,
            "late_labels": summary.late_labels,
            "youngest_label_days": float("nan") if youngest is None else rounded(youngest),
            "label_age_days": float("nan") if middle is None else rounded(middle),
        }

    def _rows_of(self, name: str) -> int:
        found = self.summaries.get(name)
        return found.rows if found else 0


def _event_time(seconds: float | None, contract: "Contract") -> dg.MetadataValue | float:
    if seconds is not None and contract.column(contract.event_time).type == "timestamp":
        return dg.MetadataValue.timestamp(seconds)
    return float("nan") if seconds is None else seconds


def pinned_sets(lakehouse: Lakehouse) -> dict[str, TableVersion]:
    """Return the newest version of each set, once it is sure that they are of one cut.

    The three tables are committed one after another; what tells that they belong together is the split id that each
    commit carries. A run that is writing them at the moment is waited for.

    Raises:
        StorageError: A set is missing, or they are of different cuts.
    """
    with lakehouse.exclusive(SETS_LOCK):
        # As they were cut: a version made by upkeep since would be unknown to what looks for the model's sets.
        sets = {name: lakehouse.require(table, made_by=table).named_by_rows for name, table in TABLES.items()}
    for table in sets.values():
        if "split_id" not in table.metadata:
            raise StorageError(
                f"version {table.version} was not written by the platform: it names no cut",
                where=lakehouse.location(table.name),
                fix="materialize train_set, validation_set and test_set together",
            )
    ids = {name: str(table.metadata["split_id"]) for name, table in sets.items()}
    if len(set(ids.values())) != 1:
        listed = ", ".join(f"{name}: {found}" for name, found in ids.items())
        raise StorageError(
            f"the sets are of different cuts ({listed})",
            where=", ".join(lakehouse.location(table.name) for table in sets.values()),
            fix="materialize train_set, validation_set and test_set together",
        )
    return sets
