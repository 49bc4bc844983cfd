"""One trial, as it runs inside a Spark task.

What belongs here: the code that executors import, kept small because each worker process loads it. What does not:
proposing points and dispatching tasks (`search`), anything of the driver's (tracking, Dagster).
"""

from __future__ import annotations

import time
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlops_assets.training.objective import fit, judge, quantized, to_loss

if TYPE_CHECKING:
    import xgboost as xgb
    from pyspark import Broadcast

    from mlops_assets.training.matrix import Matrix
    from mlops_assets.training.plan import Objective
    from mlops_assets.training.space import Point

_ERROR_LENGTH = 2_000


@dataclass
class _Prepared:
    train: xgb.QuantileDMatrix
    validation: xgb.QuantileDMatrix


# What this worker process has binned, by search: building it costs about as much as a fit, so it is done once.
# One entry at most: a second search on the same cluster drops the first one's data.
_prepared: dict[str, _Prepared] = {}


@dataclass(frozen=True)
class TrialTask:
    """Evaluates a point; pickled into each Spark job, so it holds a reference to the data and not the data.

    Attributes:
        search_id: Names the search; two searches never share prepared data.
        data: Train and validation matrix, broadcast once; closing over them would pickle them into each trial.
        objective: What is optimized.
        seed: Seed of XGBoost.
        threads: Threads of one fit.
    """

    search_id: str
    data: Broadcast[tuple[Matrix, Matrix]]
    objective: Objective
    seed: int
    threads: int

    def __call__(self, point: Point) -> dict[str, Any]:
        """Fit and judge one point; a failure is a result, too, so that it neither stops nor repeats anything."""
        started = time.perf_counter()
        try:
            value = self._value(point)
            loss = to_loss(self.objective, value)
        except Exception as error:  # noqa: BLE001 - whatever a trial dies of is recorded in its result
            text = f"{type(error).__name__}: {error}\n{traceback.format_exc()}"
            return {"status": "fail", "error": text[:_ERROR_LENGTH], "seconds": time.perf_counter() - started}
        return {"status": "ok", "loss": loss, "value": value, "seconds": time.perf_counter() - started}

    def _value(self, point: Point) -> float:
        prepared = self._prepare()
        model = fit(point, prepared.train, seed=self.seed, threads=self.threads)
        labels = prepared.validation.get_label().astype("uint8")
        return judge(self.objective, labels, model.predict(prepared.validation))

    def _prepare(self) -> _Prepared:
        if self.search_id not in _prepared:
            _prepared.clear()
            train, validation = self.data.value
            binned = quantized(train, threads=self.threads)
            _prepared[self.search_id] = _Prepared(binned, quantized(validation, threads=self.threads, ref=binned))
        return _prepared[self.search_id]
