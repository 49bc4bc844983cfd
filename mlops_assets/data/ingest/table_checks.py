"""The blocking checks of `raw_transactions`: is the table that a run has written sound?

What belongs here: counts of the table in, verdicts out. What does not: verdicts on inputs, which refuse them and leave
the table as it is (`validation`), counting (`lakehouse`), Dagster.
"""

from __future__ import annotations

from mlops_assets.data.checks import CheckOutcome
from mlops_assets.data.contract.contract import Contract

ROWS_ACCOUNTED = "rows_accounted"
BOTH_CLASSES = "both_classes"
TABLE_CHECKS: dict[str, str] = {
    ROWS_ACCOUNTED: "Rows in = accepted + quarantined + already known. Merging labels adds and loses no row, and a "
    "revert loses those of its batches.",
    BOTH_CLASSES: "The table holds frauds and genuine transactions, unless labels may come later.",
}


def rows_accounted(*, rows: int, accepted: int, quarantined: int, known: int) -> CheckOutcome:
    """Return the verdict of the first check: did every row that was read end up in exactly one place?

    Args:
        rows: Rows read from inputs that were not refused.
        accepted: Rows written to the raw table, by its log.
        quarantined: Rows written to the quarantine, by its log.
        known: Rows that were known already, by their input or by their key.
    """
    missing = rows - accepted - quarantined - known
    text = f"{rows:,} rows in = {accepted:,} accepted + {quarantined:,} quarantined + {known:,} already known"
    if missing:
        text += f": {abs(missing):,} rows were {'lost' if missing > 0 else 'duplicated'}; report it with the run's log"
    counts: dict[str, str | int | float] = {
        "rows_in": rows,
        "accepted": accepted,
        "quarantined": quarantined,
        "already_known": known,
    }
    return CheckOutcome(ROWS_ACCOUNTED, passed=not missing, description=text, details=counts)


def rows_kept(before: int, after: int) -> CheckOutcome:
    """Return the verdict of the first check after a merge of labels, which may change rows and not their number.

    Args:
        before: Rows of the raw table before.
        after: Rows afterwards.
    """
    text = f"{before:,} rows before late labels were merged, {after:,} afterwards"
    if before != after:
        text += "; report it with the run's log"
    return CheckOutcome(
        ROWS_ACCOUNTED, passed=before == after, description=text, details={"rows_before": before, "rows_after": after}
    )


def rows_reverted(*, before: int, removed: int, after: int) -> CheckOutcome:
    """Return the verdict of the first check after a revert: are exactly the rows gone that were to go?

    Args:
        before: Rows of the raw table before.
        removed: Rows that no other batch has, by its log.
        after: Rows afterwards.
    """
    text = f"{before:,} rows before batches were reverted - {removed:,} taken out = {after:,} afterwards"
    if before - removed != after:
        text += "; report it with the run's log"
    return CheckOutcome(
        ROWS_ACCOUNTED,
        passed=before - removed == after,
        description=text,
        details={"rows_before": before, "rows_removed": removed, "rows_after": after},
    )


def both_classes(*, frauds: int, genuine: int, contract: Contract) -> CheckOutcome:
    """Return whether the table holds both classes.

    Args:
        frauds: Rows of the table that are labelled as frauds.
        genuine: Rows of the table that are labelled as genuine.
        contract: The data contract; if it has `labels`, they may come later.
    """
    both = bool(frauds and genuine)
    text = f"{contract.target}: {frauds:,} frauds and {genuine:,} genuine rows in the table"
    if not both and contract.labels is not None:
        text, both = f"{text}; labels may come later", True
    if not both:
        text += "; a model needs both: also load a file with the other class"
    return CheckOutcome(BOTH_CLASSES, passed=both, description=text, details={"frauds": frauds, "genuine": genuine})
