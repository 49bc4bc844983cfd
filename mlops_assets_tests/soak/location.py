"""The code location of the soak: the platform's own, with a faster sensor for new files.

What belongs here: the pace, and binding it. What does not: anything else; training is left out because it would only
slow the loads down.
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.automation.landing import Pace
from mlops_assets.automation.sensors import new_files_sensor
from mlops_assets.definitions import build_defs
from mlops_assets.settings import Settings

PACE = Pace(interval_seconds=3, settle_seconds=4, files_per_run=60, pause_seconds=1, longest_pause_seconds=5)


def _definitions(settings: Settings) -> dg.Definitions:
    platform = build_defs(settings)
    fast = new_files_sensor(settings.spec(), status=dg.DefaultSensorStatus.RUNNING, pace=PACE)
    return dg.Definitions(
        assets=platform.assets,
        jobs=platform.jobs,
        sensors=[fast],
        resources=platform.resources,
        executor=platform.executor,
    )


defs = _definitions(Settings.from_environment())
