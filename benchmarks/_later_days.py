"""Rows as they would be known on a day, and the week after it: the handbook's, and generated ones.

What belongs here: reading the files, and cutting them in order of time with the label delay left out. What does not:
models, comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.data.sources.cards import DAY_S, simulate
from mlops_assets.data.splits.split import Block, SplitSpec, cut_days
from mlops_assets.errors import SourceError
from mlops_assets.training.matrix import Matrix, to_matrix

CONTRACT = load_contract("handbook")
DELAY = int(CONTRACT.label_delay_days)
LATER_DAYS = 7
FIRST_START = 33  # the first day from which on the sets of the platform's split hold some days each


@dataclass(frozen=True)
class Period:
    """What is known at the start of a day, cut as the platform cuts it, and the days that follow.

    Attributes:
        start: The day, counted from the first.
        train: Training set.
        gap: Rows between training and validation set.
        validation: Validation set.
        before_test: Rows with a mature label when the test set begins.
        test: Test set.
        mature: All rows with a mature label.
        later: The `LATER_DAYS` days from `start` on, that nobody knows yet.
    """

    start: int
    train: Matrix
    gap: Matrix
    validation: Matrix
    before_test: Matrix
    test: Matrix
    mature: Matrix
    later: Matrix


def read_handbook(folder: Path) -> pa.Table:
    """Read the months that are in the folder.

    Raises:
        SourceError: There is no such file.
    """
    files = sorted(folder.glob("handbook_*.parquet"))
    if not files:
        raise SourceError(
            "no handbook_*.parquet",
            where=str(folder),
            fix='name their folder: make bench NAME=quality ARGS="--data FOLDER"',
        )
    table = pa.concat_tables([pq.read_table(file) for file in files])
    return table.rename_columns([name.lower() for name in table.column_names])


def periods(table: pa.Table, count: int, *, share: float = 1.0) -> list[Period]:
    """Return what is known on several days, evenly spaced, the last one a week before the end; weeks don't overlap.

    Args:
        table: The handbook's rows.
        count: Number of days.
        share: Share of the customers whose rows are taken.

    Raises:
        ValueError: The rows do not cover that many weeks.
    """
    customer = table.column(str(CONTRACT.entity)).to_numpy()
    chosen = np.random.default_rng(0).random(int(customer.max()) + 1) < share
    table = table.filter(pa.array(chosen[customer]))
    # Rows with equal times keep the files' order; the platform's tables hold it in these two columns.
    table = table.append_column(BATCH_ID, pa.array(np.zeros(table.num_rows, dtype=np.int64)))
    table = table.append_column(ROW_NUMBER, pa.array(np.arange(table.num_rows)))
    rows = to_matrix(table, CONTRACT)
    first, last = int(rows.days.min()), int(rows.days.max()) + 1 - int(rows.days.min()) - LATER_DAYS
    starts = np.linspace(FIRST_START, last, count).astype(int) if count > 1 else np.array([last])
    if last < FIRST_START or np.any(np.diff(starts) < LATER_DAYS):
        raise ValueError(f"{count} weeks after day {FIRST_START} do not fit into {last + LATER_DAYS} days")
    return [_period(rows, rows, first, int(start)) for start in starts]


def generated(history: int, past: int = 0) -> Period:
    """Return what is known on a day of a generated history.

    Labels of known rows are those reported by the day; the later rows have the truth.

    Args:
        history: Its number, from 1: the simulation's seed. The day is the 40th, 50th or 60th.
        past: Days before the first one, of which the features know and no row is there. Without them nobody knows
            anything of the first days.
    """
    start = 40 + history % 3 * 10
    simulated = simulate(customers=2_500, terminals=600, days=past + start + LATER_DAYS, seed=history)
    table = simulated.transactions.append_column(
        BATCH_ID, pa.array(np.zeros(simulated.transactions.num_rows, np.int64))
    )
    table = table.append_column(ROW_NUMBER, pa.array(np.arange(table.num_rows)))
    rows = to_matrix(table, load_contract("cards"))
    first = int(rows.days.min()) + past
    there = rows.days >= first
    reported_at = simulated.labels.column("reported_at").cast(pa.int64()).to_numpy() // 1_000_000
    reported = simulated.labels.column("transaction_id").to_numpy()[reported_at < (first + start) * DAY_S]
    known = np.isin(table.column("transaction_id").to_numpy(), reported)
    labelled, truth = (replace(rows, y=y.astype(np.uint8)).where(there) for y in (known, simulated.fraud))
    return _period(labelled, truth, first, start)


def _period(rows: Matrix, truth: Matrix, first: int, start: int) -> Period:
    mature = _inside(rows, Block(None, first + start - DELAY))
    days, counts = np.unique(mature.days, return_counts=True)
    train, validation, test = cut_days(days, counts, SplitSpec(gap_days=DELAY), where="handbook").blocks
    return Period(
        start,
        train=_inside(mature, train),
        gap=_inside(mature, Block(train.end, validation.start)),
        validation=_inside(mature, validation),
        before_test=_inside(mature, Block(None, validation.end)),
        test=_inside(mature, test),
        mature=mature,
        later=_inside(truth, Block(first + start, first + start + LATER_DAYS)),
    )


def _inside(rows: Matrix, block: Block) -> Matrix:
    return rows.where(block.contains(rows.days))
