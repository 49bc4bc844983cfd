"""Train, validation and test set as tables: split from one pinned version of the raw table.

What belongs here: planning a split, refusing it, committing the three tables, and checking them once written. What does
not: the rules of a split (`data/splits`), finding sets that belong together (`pinned_sets`), Dagster.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

from mlops_assets.data.columns import HISTORY_COLUMNS, LABEL_KNOWN_AT, SET_COLUMN
from mlops_assets.data.splits.split import GAP, SET_NAMES, SplitSpec
from mlops_assets.errors import SplitError, StorageError
from mlops_assets.lakehouse.commits import StaleBaseError, TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.replaced_rows import replaced_rows
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lineage import (
    AS_OF,
    DAGSTER_RUN,
    LATE_LABELS,
    RAW_DATA_VERSION,
    RAW_VERSION,
    ROW_COUNT,
    SPLIT_ID,
    SPLIT_SPEC,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.labels.maturity import Maturity
    from mlops_assets.data.splits.split_checks import SetSummary

SET_TABLES = {name: f"{name}_set" for name in SET_NAMES}
SETS_LOCK = "splits"
# Increase this by hand whenever the same specification divides the same rows differently: sets of the older rules are
# then written again.
SPLIT_RULES = 2


@dataclass(frozen=True)
class SplitRequest:
    """What to split, and how.

    Attributes:
        spec: How rows are divided.
        min_rows: Minimum number of rows in a set.
        raw_version: Version of the raw table; None takes the newest.
        as_of: Moment to look back from, as text (`maturity.parse_as_of`): what arrived or became known later does not
            count. None takes the newest moment that the raw table has on record.
    """

    spec: SplitSpec
    min_rows: int = 100
    raw_version: int | None = None
    as_of: str | None = None


@dataclass(frozen=True)
class SplitReport:
    """A split, or why it was refused.

    Attributes:
        raw: Version of the raw table that was split (`TableVersion.named_by_rows`).
        split_id: Identifies the split: the same rows of the same version, split the same way, have the same id in
            every database, and other rows another one.
        spec: How the rows were divided.
        maturity: What counts as a mature label; None where labels do not age.
        rows: Row counts by set name, the gap, or the reason why rows were left out.
        frauds: Frauds among them, by the same names.
        frauds_known_later: Frauds of train and validation rows that were not known yet when the next block begins,
            and count as what was known, by set name.
        outcomes: One for each check of `SPLIT_CHECKS`.
        tables: Version of each set, by set name; empty when the split was refused and nothing was written.
        summaries: What each table holds, by set name.
    """

    raw: TableVersion
    split_id: str
    spec: SplitSpec
    maturity: Maturity | None
    rows: Mapping[str, int]
    frauds: Mapping[str, int]
    frauds_known_later: Mapping[str, int]
    outcomes: list[CheckOutcome]
    tables: Mapping[str, TableVersion] = field(default_factory=dict)
    summaries: Mapping[str, SetSummary] = field(default_factory=dict)


def split_tables(lakehouse: Lakehouse, contract: Contract, request: SplitRequest, *, dagster_run: str) -> SplitReport:
    """Split the raw table into the three sets; a set that already holds this split is not written again.

    Args:
        lakehouse: The database.
        contract: Names and roles of the columns.
        request: What to split, and how.
        dagster_run: Run id for the metadata of each commit.

    Raises:
        SplitError: The rows can't be divided as requested.
        StorageError: There is no raw table, or another writer wrote the sets at the same time.
    """
    with lakehouse.exclusive(SETS_LOCK):
        cut = _Cut.plan(lakehouse, contract, request)
        early = cut.judge(cut.summaries, shared=0)
        if not all(outcome.passed for outcome in early):
            return cut.report(early)
        try:
            tables = cut.write(dagster_run)
        except StaleBaseError:
            raise StorageError(
                "someone else wrote the sets at the same time", where="splits", fix="run again", transient=True
            ) from None
        return cut.verified(tables)


@dataclass(frozen=True)
class _Cut:
    """One split of one version of the raw table."""

    request: SplitRequest
    contract: Contract
    lakehouse: Lakehouse
    raw: TableVersion
    maturity: Maturity | None
    assigned: DataFrame
    summaries: Mapping[str, SetSummary]
    frauds_known_later: Mapping[str, int]

    @classmethod
    def plan(cls, lakehouse: Lakehouse, contract: Contract, request: SplitRequest) -> _Cut:
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.labels.as_known import known_at, labels_known_by
        from mlops_assets.data.labels.maturity import parse_as_of
        from mlops_assets.data.labels.maturity_frames import left_out, maturity_of
        from mlops_assets.data.splits.split_frames import assign_sets, summarize

        as_of = None if request.as_of is None else parse_as_of(request.as_of, contract)
        raw = lakehouse.require(RAW, made_by=RAW)
        if request.raw_version is not None:
            raw = TableVersion(RAW, request.raw_version, {})
        rows = lakehouse.read(RAW, raw.version)
        replaced = replaced_rows(lakehouse)
        maturity = maturity_of(rows, contract, as_of, replaced)
        if as_of is not None and maturity is not None:
            rows = known_at(rows, replaced, contract, maturity)
        where = f"{RAW} version {raw.version}"
        try:
            assigned = assign_sets(rows, contract, request.spec, maturity, where=where)
        except SplitError as error:
            waiting = rows.where(left_out(contract, maturity).isNotNull()).count()
            if not waiting:
                raise
            raise SplitError(
                f"{error.what}; {waiting:,} more rows have no mature label",
                where=error.where,
                fix=f"{error.fix}; labels mature with time, or when late labels arrive",
            ) from None
        # Reading uses the compacted files, but the split is named by the rows: upkeep is no reason to split again.
        raw = raw.named_by_rows
        summaries = summarize(assigned, contract, F.col(SET_COLUMN), content=True)
        moments = _moments(summaries, request.spec)
        later: dict[str, int] = {}
        if moments and (replaced is not None or LABEL_KNOWN_AT in rows.columns):
            known_today = summaries
            assigned = labels_known_by(assigned, replaced, contract, moments)
            summaries = summarize(assigned, contract, F.col(SET_COLUMN), content=True)
            later = {n: known_today[n].frauds - summaries[n].frauds for n in moments if n in summaries}
        return cls(request, contract, lakehouse, raw, maturity, assigned, summaries, later)

    @property
    def split_id(self) -> str:
        parts = {
            "rules": SPLIT_RULES,
            RAW_VERSION: self.raw.version,
            # Versions alone are the same for synthetic and for real rows.
            "content": {str(name): str(summary.content) for name, summary in self.summaries.items()},
            "contract": self.contract.fingerprint,
            **self.request.spec.as_dict(),
        }
        if self.maturity is not None:
            parts |= {AS_OF: self.maturity.as_of, "by_arrival": self.maturity.by_arrival}
        text = json.dumps(parts, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def write(self, dagster_run: str) -> dict[str, TableVersion]:
        """Write the sets that do not hold this split yet, and return all three."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.splits.split_frames import within_times

        metadata = {
            SPLIT_ID: self.split_id,
            RAW_VERSION: self.raw.version,
            DAGSTER_RUN: dagster_run,
            SPLIT_SPEC: self.request.spec.as_dict(),
            AS_OF: None if self.maturity is None else self.maturity.as_of,
            RAW_DATA_VERSION: self.lakehouse.data_version(self.raw),
        }
        written = {}
        for name, table in SET_TABLES.items():
            present = self.lakehouse.current(table)
            if present is not None and present.metadata.get(SPLIT_ID) == self.split_id:
                written[name] = present.named_by_rows
                continue
            rows = self.assigned.where(F.col(SET_COLUMN) == name).drop(SET_COLUMN, *HISTORY_COLUMNS)
            if self.request.spec.strategy == "time":  # so that the three read each file about once, and not three times
                rows = rows.where(within_times(self.contract, self.summaries[name]))
            late = 0 if self.maturity is None else self.summaries[name].late_labels
            counts = {ROW_COUNT: self.summaries[name].rows, LATE_LABELS: late}
            written[name] = self.lakehouse.replace(table, rows, base=present, metadata={**metadata, **counts})
        return written

    def verified(self, tables: Mapping[str, TableVersion]) -> SplitReport:
        """Check the sets as they were written to the tables."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        from mlops_assets.data.splits.split_frames import count_shared, summarize, union_of

        rows = union_of({name: self.lakehouse.read(table.name, table.version) for name, table in tables.items()})
        summaries = summarize(rows, self.contract, F.col(SET_COLUMN), self.maturity)
        outcomes = self.judge(summaries, shared=count_shared(rows, self.contract))
        return self.report(outcomes, tables, summaries)

    def judge(self, summaries: Mapping[str, SetSummary], *, shared: int) -> list[CheckOutcome]:
        from mlops_assets.data.labels.maturity import LEFT_OUT
        from mlops_assets.data.splits.split_checks import judge_sets

        rows, frauds = self._rows(), self._frauds()
        return judge_sets(
            summaries,
            raw_rows=sum(rows.values()),
            gap_rows=rows.get(GAP, 0),
            left_out={reason: (rows.get(reason, 0), frauds.get(reason, 0)) for reason in LEFT_OUT},
            shared=shared,
            spec=self.request.spec,
            time_zone=self.contract.time_zone,
            min_rows=self.request.min_rows,
        )

    def report(
        self,
        outcomes: list[CheckOutcome],
        tables: Mapping[str, TableVersion] | None = None,
        summaries: Mapping[str, SetSummary] | None = None,
    ) -> SplitReport:
        return SplitReport(
            self.raw,
            self.split_id,
            self.request.spec,
            self.maturity,
            self._rows(),
            self._frauds(),
            self.frauds_known_later,
            outcomes,
            tables or {},
            summaries or {},
        )

    def _rows(self) -> dict[str, int]:
        return {name: summary.rows for name, summary in self.summaries.items()}

    def _frauds(self) -> dict[str, int]:
        return {name: summary.frauds for name, summary in self.summaries.items()}


def _moments(summaries: Mapping[str, SetSummary], spec: SplitSpec) -> dict[str, float]:
    """Return when the next block begins, by set: a label that became known later would not have been there to use.

    A model is fitted when its validation block begins, and goes to work when its test block does.
    """
    if spec.strategy != "time":
        return {}
    begins = {name: summaries[name].first for name in SET_NAMES if name in summaries}
    pairs = [(name, begins.get(following)) for name, following in pairwise(SET_NAMES)]
    return {name: moment for name, moment in pairs if moment is not None}
