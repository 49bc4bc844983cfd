"""The production model in MLflow: in the run of the evaluated model, beside it and never in its place.

What belongs here: what is written about it, for those who register, compare and serve it. What does not: making it
(`production`), the rest of the run (`tuning`), registering it (`registry`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlops_assets.lineage import (
    MODEL_URI,
    PRODUCTION_FILE,
    PRODUCTION_MODEL_URI_TAG,
    PRODUCTION_SCORES_FILE,
    REHEARSED_SCORES_FILE,
)
from mlops_assets.tracking.artifacts import scores_to_bytes
from mlops_assets.tracking.runs import PRODUCTION_MODEL_NAME

if TYPE_CHECKING:
    import pandas as pd

    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.tracking.runs import ParentRun
    from mlops_assets.training.final_model import FinalModel
    from mlops_assets.training.production import ProductionModel
    from mlops_assets.training.records import SearchResult


@dataclass(frozen=True)
class ProductionRecord:
    """A production model and where it is.

    Attributes:
        model_uri: The model in MLflow.
        model: The model and its threshold.
        evaluated_average_precision: Average precision of the evaluated model on the test rows.
    """

    model_uri: str
    model: ProductionModel
    evaluated_average_precision: float

    @property
    def message(self) -> str:
        """One line for the run's log."""
        return (
            f"production model: {self.model.trees} trees on {self.model.rows:,} rows; rehearsed without the test rows, "
            f"average precision on them {self.model.rehearsed_average_precision:.4f} "
            f"(evaluated model {self.evaluated_average_precision:.4f})"
        )


def record_production(
    run: ParentRun,
    model: ProductionModel,
    evaluated_uri: str,
    evaluated: FinalModel,
    example: pd.DataFrame,
    result: SearchResult,
    sets: Mapping[str, TableVersion],
) -> ProductionRecord:
    """Write a production model into the run of the evaluated model.

    Args:
        run: The open run.
        model: The production model.
        evaluated_uri: The evaluated model in MLflow.
        evaluated: The evaluated model.
        example: A row of features as a caller would send it.
        result: The finished search.
        sets: Version of each set, by the set's name.

    Raises:
        TrackingError: MLflow rejects a request or can't be reached.
    """
    params = {**result.best.point, "trees": model.trees}
    uri = run.log_model(model.booster, example, params, name=PRODUCTION_MODEL_NAME)
    average_precision = evaluated.evaluation.metrics["average_precision"].estimate
    report = {
        MODEL_URI: uri,
        "evaluated_model_uri": evaluated_uri,
        "point": dict(result.best.point),
        "sets": {name: table.version for name, table in sets.items()},
        "evaluated_trees": result.best.rounds,
        "evaluated_average_precision": average_precision,
        **model.to_json_dict(),
    }
    run.log_files(
        {
            PRODUCTION_FILE: json.dumps(report, indent=2).encode(),
            PRODUCTION_SCORES_FILE: scores_to_bytes(model.test_scores),
            REHEARSED_SCORES_FILE: scores_to_bytes(model.rehearsed_scores),
        }
    )
    run.log(
        metrics={
            "production_trees": model.trees,
            "production_rows": model.rows,
            "production_threshold": model.threshold.value,
            "rehearsed_average_precision": model.rehearsed_average_precision,
        },
        tags={PRODUCTION_MODEL_URI_TAG: uri},
    )
    return ProductionRecord(uri, model, average_precision)
