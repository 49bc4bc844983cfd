"""What the MLflow run of a search says of the models that it made.

What belongs here: reading a run's tags, params, data sets and reports, each once. What does not: writing them
(`training/tuning`, `training/production_run`), comparing models (`comparison`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.evaluation.recalibration import Recalibration
from mlops_assets.evaluation.threshold import Threshold
from mlops_assets.lineage import (
    DATABASE_TAG,
    EVALUATION_FILE,
    MODEL_URI_TAG,
    PRODUCTION_FILE,
    PRODUCTION_MODEL_URI_TAG,
    PRODUCTION_SCORES_FILE,
    SCORES_FILE,
    SPLIT_ID_TAG,
    TEST_VERSION_TAG,
)
from mlops_assets.registry.pins import input_versions
from mlops_assets.tracking.artifacts import read_json
from mlops_assets.tracking.error_codes import is_missing
from mlops_assets.training.members import Bag

if TYPE_CHECKING:
    from mlops_assets.tracking.store import Store

ITSELF = "the model itself"
REHEARSAL = "the rehearsal, its point fitted on what was known when the test rows began"
_NEEDED = (DATABASE_TAG, MODEL_URI_TAG, SPLIT_ID_TAG, TEST_VERSION_TAG)


@dataclass(frozen=True)
class TunedRun:
    """A run of `tuned_model` that has ended.

    Attributes:
        run_id: The MLflow run.
        tags: Its tags.
        params: Its params, as text.
        tables: Version of each set, by the name of its table.
        evaluation: The report on the evaluated model.
        production: The report on the production model; None if there is none.
    """

    run_id: str
    tags: Mapping[str, str]
    params: Mapping[str, str]
    tables: Mapping[str, int]
    evaluation: Mapping[str, Any]
    production: Mapping[str, Any] | None

    @classmethod
    def read(cls, store: Store, run_id: str) -> TunedRun:
        """Read a run.

        Raises:
            TrackingError: The run is gone, or it is not a run of `tuned_model`.
        """
        try:
            run = store.client.get_run(run_id)
        except MlflowException as error:
            if not is_missing(error):
                raise
            raise _unusable(run_id, "the run is gone") from None
        tags = run.data.tags
        if missing := [name for name in _NEEDED if name not in tags]:
            raise _unusable(run_id, f"it has no {', '.join(missing)}")
        report = read_json(store, run_id, EVALUATION_FILE)
        production = None
        if PRODUCTION_MODEL_URI_TAG in tags:
            production = read_json(store, run_id, PRODUCTION_FILE)
        return cls(run_id, tags, run.data.params, dict(input_versions(run)), report, production)

    @property
    def production_uri(self) -> str:
        """The production model; empty if there is none."""
        return self.tags.get(PRODUCTION_MODEL_URI_TAG, "")

    @property
    def served_scores(self) -> str:
        """The artifact with the test rows' scores by the model that is served."""
        return SCORES_FILE if self.production is None else PRODUCTION_SCORES_FILE

    @property
    def judged(self) -> str:
        """What stands for the served model on the test rows."""
        return ITSELF if self.production is None else REHEARSAL

    @property
    def average_precision(self) -> float:
        """Average precision on the test rows of what stands for the served model."""
        if self.production is not None:
            return float(self.production["rehearsed_average_precision"])
        return float(self.evaluation["metrics"]["average_precision"]["estimate"])

    @property
    def point(self) -> dict[str, float]:
        """The hyperparameters, also those that were fixed."""
        if self.production is not None:
            return dict(self.production["point"])
        return {name: float(self.params[name]) for name in json.loads(self.params["space"])}

    @property
    def trees_per_row(self) -> float:
        """Trees of the production model for each of its rows, weighted by its age."""
        if self.production is None:
            raise _unusable(self.run_id, "it has no production model")
        rows = self.production.get("counted_rows", self.production["rows"])  # a name that older runs do not have
        return float(self.production["trees"] / rows)

    @property
    def bag(self) -> Bag:
        """The fits that it is the mean of; runs of before there were several have one."""
        anchor = self.params.get("anchor")
        return Bag(
            self.point,
            json.loads(anchor) if anchor else None,
            size=int(self.params.get("bagging", 1)),
            seed=int(self.params["seed"]),
        )

    @property
    def calibration(self) -> Recalibration | None:
        """What the scores of both models are calibrated by; None if they are not."""
        found = self.evaluation.get("calibration")
        return None if found is None else Recalibration(**found)

    def threshold(self, *, production: bool) -> Threshold:
        """Return the threshold of the production model, or of the evaluated one."""
        report = self.production if production else self.evaluation
        if report is None:
            raise _unusable(self.run_id, "it has no production model")
        return Threshold.from_json_dict(report["threshold"])


def _unusable(run_id: str, why: str) -> TrackingError:
    return TrackingError(
        f"the run says nothing about the model: {why}",
        where=f"MLflow run {run_id}",
        fix="materialize `tuned_model` again; delete the alias of a version that was not made by it",
    )
