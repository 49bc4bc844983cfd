"""The sensor that loads captured predictions.

What belongs here: looking, and requesting a run. What does not: reading what was captured (`serving/log/origin`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import dagster as dg

from mlops_assets.automation.jobs import LOAD_PREDICTIONS
from mlops_assets.automation.outcomes import GOING
from mlops_assets.automation.retired import Retired, active
from mlops_assets.spec import FraudModelSpec

NEW_PREDICTIONS = "new_predictions"
_SECONDS = 60


def predictions_sensor(
    spec: FraudModelSpec,
    *,
    table: str,
    login: Callable[[], Mapping[str, str]],
    status: dg.DefaultSensorStatus,
    retired: Retired = active,
) -> dg.SensorDefinition:
    """Return the sensor of a model that names where its predictions are captured.

    A place that can't be read fails the tick. A run that failed is followed by another one at the next look, since what
    it did not commit is still waiting.

    Args:
        spec: The model.
        table: Folder or URL of the log's Delta table.
        login: Returns librdkafka's settings for security.
        status: Whether it is on when nobody has switched it.
        retired: Says whether the model is retired; then nothing starts.
    """
    job = spec.prefixed(LOAD_PREDICTIONS)

    @dg.sensor(
        name=spec.prefixed(NEW_PREDICTIONS),
        job_name=job,
        minimum_interval_seconds=_SECONDS,
        default_status=status,
        description="Loads predictions that servers have captured since the last load, one run at a time.",
    )
    def new_predictions(context: dg.SensorEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from mlops_assets.serving.log.origin import LogOrigin

        if reason := retired():
            return dg.SkipReason(reason)
        waiting = LogOrigin.parse(spec.inference_log or "").waiting(table, login())
        if not waiting:
            return dg.SkipReason("nothing new was captured")
        going = context.instance.get_runs(dg.RunsFilter(job_name=job, statuses=list(GOING)), limit=1)
        if going:
            return dg.SkipReason(f"{waiting:,} are waiting, and a load is going on")
        return dg.RunRequest(tags={"mlops_assets/waiting": str(waiting)})

    return new_predictions
