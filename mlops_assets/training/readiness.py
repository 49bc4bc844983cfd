"""What is checked before a search is paid for: classes, amounts, and features that give the target away.

What belongs here: reading what the checks need, in three Spark jobs at most, and refusing rows on which the search or
its evaluation would fail hours later. What does not: the rules for leaks (`evaluation/leaks`), the checks of a split
(`data/splits/split_checks`).

These checks stand at the start of a search and not among those of the splits: they depend on the search's own options
(threshold rule, accepted leaks), a backtest has no splits, and a reason for accepting a leak belongs to the model that
was trained with it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import reduce
from typing import TYPE_CHECKING

import numpy as np
from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER, SET_COLUMN
from mlops_assets.errors import EvaluationError, LeakError
from mlops_assets.evaluation.leaks import ChangedRows, Leak, find_leaks
from mlops_assets.training.final_model import EvaluationPlan, no_amounts
from mlops_assets.training.matrix import to_matrix

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.training.engines.engines import SetName, SplitTables

# More rows would not change a verdict; values limit the sample of a wide table.
_MOST_FRAUDS, _MOST_GENUINE, _MOST_VALUES = 5_000, 20_000, 5_000_000
_BUCKETS = 1_000_000
# A category of more is an id: its levels have too few frauds each to learn from.
_MOST_LEVELS = 1_000


def require_ready(
    tables: SplitTables,
    plan: EvaluationPlan,
    accepted: Mapping[str, str],
    changes: Mapping[str, ChangedRows],
    log: Callable[[str], None],
    *,
    names: Mapping[SetName, str],
) -> None:
    """Refuse sets on which a search, its threshold or its evaluation is bound to fail, and features that leak.

    Args:
        tables: The sets.
        plan: How the model will be evaluated.
        accepted: Reasons for features that the leak check may name, by feature.
        changes: Re-delivered rows by feature; see `changed_rows`.
        log: Writes a line to the run's log.
        names: The sets' names in errors.

    Raises:
        EvaluationError: A set has one class only, amounts below 0, or lacks the amounts that the plan needs; or a
            category has more levels than can be learned from.
        LeakError: A feature leaks and is not accepted, or a reason is empty or for no feature.
    """
    contract = tables.contract
    _check_reasons(accepted, contract)
    _require_few_levels(tables, names["train"])
    if plan.threshold_rule == "cost" and contract.amount is None:
        raise no_amounts()
    rows, frauds = _require_classes_and_amounts(tables, names)
    found = _leaks(tables, rows, frauds, changes)
    refused = [leak for leak in found if leak.feature not in accepted]
    if refused:
        listed = "; ".join(f"{leak.feature}: {leak.reason}" for leak in refused)
        raise LeakError(
            f"features that give the target away: {listed}",
            where=f"{names['train']} and {names['validation']}",
            fix="take them out of the contract's `features`; or, if they are known in this form when a transaction is "
            f"scored, say why: `accepted_leaks: {{{refused[0].feature}: <reason>}}` in the configuration of the search",
        )
    for leak in found:
        log(f"leak check: {leak.feature}: {leak.reason}; accepted: {accepted[leak.feature]}")
    if not found:
        log("leak check: no feature gives the target away")


def changed_rows(replaced: DataFrame, now: DataFrame, contract: Contract) -> dict[str, ChangedRows]:
    """Count, per feature, in which re-delivered rows its value changed.

    A row that came several times is compared with all of its earlier versions, and counts once.

    Args:
        replaced: Rows that later writes of their key replaced.
        now: The version of the raw table that the sets were cut from.
        contract: Has a key.
    """
    key, target = str(contract.key), contract.target
    features = [name for name in contract.features if name in replaced.columns]  # later versions may add columns
    old = replaced.select(key, BATCH_ID, *features).alias("old")
    new = now.select(key, target, BATCH_ID, *features).alias("new")
    # A version that was kept and then not replaced (`replaced_rows`) is still the one in the table.
    same = (F.col(f"old.{key}") == F.col(f"new.{key}")) & (F.col(f"old.{BATCH_ID}") != F.col(f"new.{BATCH_ID}"))
    changed = {name: ~F.col(f"old.{name}").eqNullSafe(F.col(f"new.{name}")) for name in features}
    again = (
        old.join(new, same)
        .groupBy(F.col(f"new.{key}"), (F.col(f"new.{target}") == 1).alias("_fraud"))
        .agg(*(F.bool_or(changed[name]).alias(name) for name in features))
    )
    counts = {
        bool(row["_fraud"]): row
        for row in again.groupBy("_fraud")
        .agg(F.count(F.lit(1)).alias("_rows"), *(F.count_if(name).alias(name) for name in features))
        .where(F.col("_fraud").isNotNull())
        .collect()
    }

    def count(name: str, *, fraud: bool) -> int:
        return int(counts[fraud][name]) if fraud in counts else 0

    return {
        name: ChangedRows(
            count("_rows", fraud=True), count(name, fraud=True), count("_rows", fraud=False), count(name, fraud=False)
        )
        for name in features
    }


def _check_reasons(accepted: Mapping[str, str], contract: Contract) -> None:
    where = "accepted_leaks in the configuration of the search"
    unknown = sorted(set(accepted) - set(contract.features))
    if unknown:
        raise LeakError(
            f"no such features: {', '.join(unknown)}",
            where=where,
            fix=f"name features of the contract: {', '.join(contract.features)}",
        )
    silent = [name for name, reason in accepted.items() if not reason.strip()]
    if silent:
        raise LeakError(
            f"no reason is given for: {', '.join(silent)}",
            where=where,
            fix="say why the feature is known, in this form, when a transaction is scored",
        )


def _require_few_levels(tables: SplitTables, shown: str) -> None:
    categories = tables.contract.categories
    if not categories:
        return
    counts = tables.rows("train").agg(*(F.countDistinct(name).alias(name) for name in categories)).collect()[0]
    many = [f"{name} has {counts[name]:,}" for name in categories if counts[name] > _MOST_LEVELS]
    if many:
        raise EvaluationError(
            f"too many levels, at most {_MOST_LEVELS:,} can be learned: {', '.join(many)}",
            where=shown,
            fix="take it out of the contract's `features` and `categories`, or group its levels before loading",
        )


def _require_classes_and_amounts(tables: SplitTables, names: Mapping[SetName, str]) -> tuple[int, int]:
    """Return rows and frauds of the training and validation sets together."""
    contract = tables.contract
    amount = F.lit(None).cast("double") if contract.amount is None else F.col(contract.amount).cast("double")
    fraud = F.col(contract.target) == 1
    parts = [
        tables.rows(name).select(F.lit(name).alias(SET_COLUMN), fraud.alias("fraud"), amount.alias("amount"))
        for name in names
    ]
    counted = (
        reduce(lambda left, right: left.unionByName(right), parts)
        .groupBy(SET_COLUMN)
        .agg(
            F.count(F.lit(1)).alias("rows"),
            F.count_if("fraud").alias("frauds"),
            F.min("amount").alias("least"),
            F.count_if(F.col("amount") < 0).alias("negative"),
            F.sum(F.when(F.col("fraud"), F.col("amount"))).alias("at_stake"),
        )
        .collect()
    )
    by_name = {row[SET_COLUMN]: row for row in counted}
    for name, shown in names.items():
        row = by_name.get(name)
        if row is None or not 0 < row["frauds"] < row["rows"]:
            rows, kind = (0, "fraud") if row is None else (row["rows"], "fraud" if row["frauds"] else "genuine")
            raise EvaluationError(
                f"all {rows:,} rows are {kind}: a search and its evaluation need both classes",
                where=shown,
                fix="take a longer period, so that both classes occur",
            )
        if row["negative"]:
            raise EvaluationError(
                f"{row['negative']:,} amounts are below 0, the least is {row['least']:g}: costs can't be computed",
                where=f"{shown}, column {contract.amount}",
                fix="load them again under a contract with `min: 0` for the amount, which quarantines them; if they "
                "are refunds, load the money at stake as a column of its own, 0 for a refund",
            )
        if name == "test" and contract.amount is not None and not row["at_stake"] > 0:
            raise EvaluationError(
                "no fraud has an amount above 0", where=f"{shown}, column {contract.amount}", fix="take a longer period"
            )
    searched = [by_name["train"], by_name["validation"]]
    return sum(row["rows"] for row in searched), sum(row["frauds"] for row in searched)


def _leaks(tables: SplitTables, rows: int, frauds: int, changes: Mapping[str, ChangedRows]) -> list[Leak]:
    """Apply the rules to all frauds and a sample of the genuine rows that the search may use."""
    contract = tables.contract
    most = min(_MOST_GENUINE, _MOST_VALUES // len(contract.features))
    shares = {1: min(1.0, _MOST_FRAUDS / frauds), 0: min(1.0, most / (rows - frauds))}
    bucket = F.pmod(F.xxhash64(BATCH_ID, ROW_NUMBER), F.lit(_BUCKETS))
    kept = F.lit(False)
    for label, share in shares.items():
        kept = kept | ((F.col(contract.target) == label) & (bucket < F.lit(round(share * _BUCKETS))))
    searched = tables.rows("train").unionByName(tables.rows("validation"))
    sample = to_matrix(searched.where(kept).toArrow(), contract)
    weights = np.where(sample.y == 1, 1 / shares[1], 1 / shares[0])
    return find_leaks(sample.features, sample.X, sample.y, weights, changes)
