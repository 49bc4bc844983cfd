"""One trial, as it runs inside a Spark task.

What belongs here: the code that executors import, kept small because each worker process loads it. What does not:
proposing points and dispatching tasks (`search`), the rules by which a trial ends early (`stopping`), anything of the
driver's (tracking, Dagster).
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import xgboost as xgb

from mlops_assets.training.objective import fit, judge, quantized, to_loss, trees_of
from mlops_assets.training.search.stopping import PruningThresholds, best_checkpoint, is_due, is_hopeless, is_stale

if TYPE_CHECKING:
    from mlops_assets.training.plan import Objective
    from mlops_assets.training.search.shared_data import SharedData
    from mlops_assets.training.space import Point

_ERROR_LENGTH = 2_000


@dataclass
class _Prepared:
    train: xgb.QuantileDMatrix
    validation: xgb.QuantileDMatrix


# What this worker process has binned, by search: building it costs about as much as a fit, so it is done once.
# One entry at most: a second search on the same cluster drops the first one's data. Searches that run side by side
# take turns with the workers and bin anew at each turn: slower, never mixed up.
_prepared: dict[str, _Prepared] = {}


@dataclass(frozen=True)
class Assignment:
    """What the driver hands a trial.

    Attributes:
        point: What to try.
        thresholds: What it must come to on its way; none for a trial that is not to be pruned.
    """

    point: Point
    thresholds: PruningThresholds = field(default_factory=PruningThresholds)


@dataclass(frozen=True)
class TrialTask:
    """Evaluates a point; pickled into each Spark job, so it holds a reference to the data and not the data.

    Attributes:
        search_id: Names the search; two searches never share prepared data.
        data: Where train and validation matrix are; closing over them would pickle them into each trial.
        objective: What is optimized.
        seed: Seed of XGBoost.
        threads: Threads of one fit.
        checkpoint_rounds: Trees between two looks at the validation rows; 0 looks once, at the end.
        early_stopping_rounds: Trees without anything better after which a trial ends; 0: never.
    """

    search_id: str
    data: SharedData
    objective: Objective
    seed: int
    threads: int
    checkpoint_rounds: int
    early_stopping_rounds: int

    def __call__(self, assignment: Assignment) -> dict[str, Any]:
        """Fit and judge one point; a failure is a result, too, so that it neither stops nor repeats anything.

        Returns:
            hyperopt's result document: `status` and `loss`, or `status` and `error`; besides `value`, `rounds`,
            `curve` and `pruned` (as `TrialRecord` has them) and `seconds`.
        """
        started = time.perf_counter()
        try:
            result = self._try(assignment)
        except Exception as error:  # noqa: BLE001 - whatever a trial dies of is recorded in its result
            result = failure(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        return {**result, "seconds": time.perf_counter() - started}

    def _try(self, assignment: Assignment) -> dict[str, Any]:
        prepared = self._prepare()
        labels = prepared.validation.get_label().astype("uint8")
        values: dict[int, float] = {}

        def look(model: xgb.Booster, rounds: int) -> float:
            # XGBoost keeps the margins of this matrix and adds the new trees to them: all looks of a trial together
            # walk each tree once, and give the bits of one prediction from scratch.
            values[rounds] = judge(self.objective, labels, model.predict(prepared.validation))
            return to_loss(self.objective, values[rounds])

        point = assignment.point
        watch = Checkpoints(
            look, trees_of(point), self.checkpoint_rounds, self.early_stopping_rounds, assignment.thresholds
        )
        fit(point, prepared.train, seed=self.seed, threads=self.threads, callback=watch)
        # Without early stopping a finished trial stands for all its trees, whatever it was worth on the way.
        best = watch.curve[-1] if not (watch.pruned or self.early_stopping_rounds) else best_checkpoint(watch.curve)
        return {
            "status": "ok",
            "loss": best[1],
            "value": values[best[0]],
            "rounds": best[0],
            "curve": list(values.items()) if self.checkpoint_rounds else [],
            "pruned": watch.pruned,
        }

    def _prepare(self) -> _Prepared:
        if self.search_id not in _prepared:
            _prepared.clear()
            train, validation = self.data.load()
            binned = quantized(train, threads=self.threads)
            _prepared[self.search_id] = _Prepared(binned, quantized(validation, threads=self.threads, ref=binned))
            self.data.release()
        return _prepared[self.search_id]


class Checkpoints(xgb.callback.TrainingCallback):
    """Judges a growing model every so many trees, and ends its training when it is stale or hopeless.

    XGBoost's own evaluation judges after every single tree, with its own metrics; that costs more and says less.

    Args:
        look: Returns the loss of a model with so many trees.
        last: Trees of the whole model.
        every: Trees between two looks; 0 looks at the whole model only.
        patience: Trees without anything better after which the model is stale; 0: never.
        thresholds: What it must have come to.

    Attributes:
        curve: (trees, loss) of each look.
        pruned: Whether it was ended as hopeless. A model that is both stale and hopeless has finished.
    """

    def __init__(
        self,
        look: Callable[[xgb.Booster, int], float],
        last: int,
        every: int,
        patience: int,
        thresholds: PruningThresholds,
    ) -> None:
        super().__init__()
        self._look, self._last, self._every, self._patience, self._thresholds = (
            look,
            last,
            every or last,
            patience,
            thresholds,
        )
        self.curve: list[tuple[int, float]] = []
        self.pruned = False

    def after_iteration(self, model: xgb.Booster, epoch: int, evals_log: Any) -> bool:  # noqa: ARG002 - XGBoost's
        """Look if it is time to; return whether to end the training."""
        rounds = epoch + 1
        if not is_due(rounds, self._last, self._every):
            return False
        self.curve.append((rounds, self._look(model, rounds)))
        if rounds == self._last or is_stale(self.curve, self._patience):
            return True
        self.pruned = is_hopeless(self.curve, self._thresholds)
        return self.pruned


def failure(error: str) -> dict[str, Any]:
    """Return the result document of a trial that failed."""
    return {"status": "fail", "error": error[:_ERROR_LENGTH]}
