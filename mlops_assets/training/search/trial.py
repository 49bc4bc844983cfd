"""One trial, as it runs in a Spark task.

What belongs here: the code that executors import, kept small because each worker process loads it. What does not:
proposing points and dispatching tasks (`search`), the rules for ending a trial early (`stopping`), code of the driver
(tracking, Dagster).
"""

from __future__ import annotations

import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xgboost as xgb

from mlops_assets.training.objective import BinnedRows, fit, judge, quantized, to_loss, trees_of
from mlops_assets.training.search.sample import sampled
from mlops_assets.training.search.stopping import PruningThresholds, best_checkpoint, is_due, is_hopeless, is_stale

if TYPE_CHECKING:
    from mlops_assets.training.plan import Objective
    from mlops_assets.training.search.shared_data import SharedData
    from mlops_assets.training.space import Point

_ERROR_LENGTH = 2_000


@dataclass
class _Block:
    train: BinnedRows
    validation: BinnedRows


# The binned data of this worker process, by search and share of the genuine rows: binning costs about as much as a fit,
# so it is done once. One search at most: a second one on the same cluster drops the first one's data. Concurrent
# searches that share a worker bin again at each switch: slower, but never mixed up.
_prepared: dict[tuple[str, float], list[_Block]] = {}


@dataclass(frozen=True)
class Assignment:
    """The input of a trial, sent by the driver.

    Attributes:
        point: The hyperparameters to try.
        thresholds: Pruning thresholds; empty for a trial that must not be pruned.
        older: For each earlier fold, newest first: the same for the mean up to that fold.
        shifts: For each fold but the last: how much larger the mean loss over all folds is than that up to this fold.
        share: Share of the genuine training rows to fit on; thresholds and shifts are of trials of the same share.
        seconds: Time that it may take, an equal part for each fold; when that is over, it keeps the trees it has.
    """

    point: Point
    thresholds: PruningThresholds = field(default_factory=PruningThresholds)
    older: tuple[PruningThresholds, ...] = ()
    shifts: tuple[float, ...] = ()
    share: float = 1.0
    seconds: float = math.inf


@dataclass(frozen=True)
class TrialTask:
    """Evaluates a point; pickled into each Spark job, so it holds only a reference to the data.

    Attributes:
        search_id: Identifies the search; two searches never share prepared data.
        data: Reference to training and validation rows; holding the rows would pickle them into each trial.
        objective: The metric to optimize.
        seed: Seed of XGBoost, and of the sample that screening trials are fitted on.
        threads: Threads of one fit.
        checkpoint_rounds: Trees between two evaluations on the validation rows; 0 evaluates once, at the end.
        early_stopping_rounds: Trees without improvement after which a trial ends; 0: never.
        older_rows: Training rows of each earlier fold, newest first; `data` has its validation rows.
    """

    search_id: str
    data: SharedData
    objective: Objective
    seed: int
    threads: int
    checkpoint_rounds: int
    early_stopping_rounds: int
    older_rows: tuple[int, ...] = ()

    def __call__(self, assignment: Assignment) -> dict[str, Any]:
        """Fit and evaluate one point; a failure is a result too, so Spark neither stops the job nor retries the task.

        Returns:
            hyperopt's result document: `status` and `loss`, or `status` and `error`; also `value`, `rounds`,
            `curve`, `folds` and `pruned` (as `TrialRecord` has them) and `seconds`.
        """
        started = time.perf_counter()
        try:
            result = self._try(assignment)
        except Exception as error:  # noqa: BLE001 - the result records any error of a trial
            result = failure(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        return {**result, "seconds": time.perf_counter() - started}

    def _try(self, assignment: Assignment) -> dict[str, Any]:
        blocks = self._prepare(assignment.share)
        started = time.perf_counter()
        older = assignment.older or (PruningThresholds(),) * (len(blocks) - 1)
        folds: list[dict[str, Any]] = []
        for block, thresholds in zip(blocks, (assignment.thresholds, *older), strict=True):
            until = started + assignment.seconds * (len(folds) + 1) / len(blocks)
            folds.append(self._try_fold(assignment.point, block, thresholds, folds, until))
            if folds[-1]["pruned"]:
                break
        value = sum(fold["value"] for fold in folds) / len(folds)
        loss = to_loss(self.objective, value)
        if len(folds) < len(blocks) and assignment.shifts:
            loss += assignment.shifts[len(folds) - 1]
        newest = folds[0]
        return {
            "status": "ok",
            "loss": loss,
            "value": value,
            "rounds": newest["rounds"],
            "curve": newest["curve"],
            "folds": [[fold["value"], fold["rounds"], fold["curve"]] for fold in folds] if len(blocks) > 1 else [],
            "pruned": folds[-1]["pruned"],
        }

    def _try_fold(
        self, point: Point, block: _Block, thresholds: PruningThresholds, before: list[dict[str, Any]], until: float
    ) -> dict[str, Any]:
        """Fit and evaluate on one fold; it is pruned by the mean loss over it and the folds before it."""
        labels = block.validation.get_label().astype("uint8")
        values: dict[int, float] = {}
        so_far = sum(to_loss(self.objective, fold["value"]) for fold in before)

        def evaluate(model: xgb.Booster, rounds: int) -> float:
            # XGBoost caches the margins of this matrix and adds only the new trees: all evaluations of a trial together
            # visit each tree once, and the result is bit for bit that of a prediction from scratch.
            values[rounds] = judge(self.objective, labels, model.predict(block.validation))
            return (so_far + to_loss(self.objective, values[rounds])) / (len(before) + 1)

        watch = Checkpoints(
            evaluate, trees_of(point), self.checkpoint_rounds, self.early_stopping_rounds, thresholds, until
        )
        fit(point, block.train, seed=self.seed, threads=self.threads, callback=watch)
        # Without early stopping, the value of a finished trial is the one of all its trees, not of its best checkpoint.
        best = watch.curve[-1] if not (watch.pruned or self.early_stopping_rounds) else best_checkpoint(watch.curve)
        return {
            "value": values[best[0]],
            "rounds": best[0],
            "curve": list(values.items()) if self.checkpoint_rounds else [],
            "pruned": watch.pruned,
        }

    def _prepare(self, share: float) -> list[_Block]:
        key = self.search_id, share
        if key not in _prepared:
            for other in [known for known in _prepared if known[0] != self.search_id]:
                del _prepared[other]
            train, *judged = self.data.load()
            older_rows: Sequence[int] = self.older_rows
            weights: npt.NDArray[np.float32] | None = None
            if share < 1:
                train, places, weights = sampled(train, share, self.seed)
                older_rows = np.searchsorted(places, self.older_rows).tolist()
            binned = quantized(train, threads=self.threads, weights=weights)
            # Earlier folds take the bins of the newest, which halves the time of theirs (0.40 s in place of 0.82 for
            # two folds of 301,707 x 15) and says nothing of labels. A fold's rows are the first of the training rows,
            # so none is copied. XGBoost can't slice binned rows; weights of 0 would cost each fold a fit on all rows.
            earlier = [
                quantized(
                    train.first(rows),
                    threads=self.threads,
                    ref=binned,
                    weights=None if weights is None else weights[:rows],
                )
                for rows in older_rows
            ]
            _prepared[key] = [
                _Block(rows, quantized(validation, threads=self.threads, ref=binned))
                for rows, validation in zip([binned, *earlier], judged, strict=True)
            ]
            self.data.release()
        return _prepared[key]


class Checkpoints(xgb.callback.TrainingCallback):
    """Evaluates a growing model at checkpoints, and ends its training when it is stale or hopeless.

    XGBoost's own evaluation runs after every tree, with its own metrics; it costs more and says less.

    Args:
        evaluate: Returns the loss of a model with a given number of trees.
        last: Trees of the whole model.
        every: Trees between two checkpoints; 0 evaluates the whole model only.
        patience: Trees without improvement after which the model is stale; 0: never.
        thresholds: Pruning thresholds.
        until: When to end, on the clock of `time.perf_counter`.

    Attributes:
        curve: (trees, loss) of each checkpoint.
        pruned: Whether it was stopped as hopeless. A model that is both stale and hopeless counts as finished.
    """

    def __init__(
        self,
        evaluate: Callable[[xgb.Booster, int], float],
        last: int,
        every: int,
        patience: int,
        thresholds: PruningThresholds,
        until: float,
    ) -> None:
        super().__init__()
        self._evaluate, self._last, self._every, self._patience, self._thresholds = (
            evaluate,
            last,
            every or last,
            patience,
            thresholds,
        )
        self._until = until
        self.curve: list[tuple[int, float]] = []
        self.pruned = False

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's
        """Evaluate the model at a checkpoint; return whether to end the training."""
        rounds = epoch + 1
        if not is_due(rounds, self._last, self._every):
            return False
        self.curve.append((rounds, self._evaluate(model, rounds)))
        if rounds == self._last or is_stale(self.curve, self._patience):
            return True
        self.pruned = is_hopeless(self.curve, self._thresholds)
        return self.pruned or time.perf_counter() > self._until


def failure(error: str) -> dict[str, Any]:
    """Return the result document of a trial that failed."""
    return {"status": "fail", "error": error[:_ERROR_LENGTH]}
