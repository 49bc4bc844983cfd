"""From bad files in the landing folder to the sets: landing, load and conditions together, as the daemon ticks them.

The assets, jobs, sensor and conditions are those of a code location; only the clock is moved by hand.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from deltalake import DeltaTable

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.splits import TABLES
from mlops_assets.automation.conditions import conditions
from mlops_assets.automation.landing import LandingState, Pace
from mlops_assets.automation.sensors import new_files_sensor
from mlops_assets.definitions import build_defs
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import Databases, replaced, spec_of, transactions, write_csv

SETS = set(TABLES.values())


@dataclass
class Daemon:
    """What the daemon does: ask the sensor and the conditions, run what they ask for."""

    landing: Path
    lakehouse: Lakehouse
    instance: dg.DagsterInstance
    now: datetime = field(default_factory=lambda: datetime.now(UTC).replace(minute=1, second=30, microsecond=0))
    landed: str | None = None
    evaluated: Any = None

    def __post_init__(self) -> None:
        self.landing.mkdir()
        settings = Settings(home=self.landing.parent / "home", source=str(self.landing))
        self.defs = build_defs(settings, lakehouse=Databases(self.lakehouse))
        self.spec = spec_of(source=str(self.landing))
        self.sensor = new_files_sensor(self.spec, status=dg.DefaultSensorStatus.STOPPED, pace=Pace(settle_seconds=0))

    @property
    def state(self) -> LandingState:
        return LandingState.from_cursor(self.landed)

    def land(self) -> list[bool]:
        """Run what the sensor asks for until it rests; return which runs succeeded."""
        ran: list[bool] = []
        for _ in range(20):
            with dg.build_sensor_context(instance=self.instance, cursor=self.landed) as context:
                result = self.sensor(context)
            assert isinstance(result, dg.SensorResult)
            self.landed = result.cursor
            if not result.run_requests and not self.state.seen:
                return ran
            ran += [self._launch(request) for request in result.run_requests or []]
        raise AssertionError(f"landing does not come to rest: {ran}")

    def _launch(self, request: dg.RunRequest) -> bool:
        job = self.defs.resolve_job_def("load_data")
        tags = {**request.tags, "dagster/run_key": str(request.run_key)}
        return job.execute_in_process(
            run_config=request.run_config, tags=tags, instance=self.instance, raise_on_error=False
        ).success

    def look(self) -> set[str]:
        """Evaluate the conditions an hour later; return the names of what is asked for."""
        self.now += timedelta(hours=1)
        result = dg.evaluate_automation_conditions(
            defs=self.defs, instance=self.instance, cursor=self.evaluated, evaluation_time=self.now
        )
        self.evaluated = result.cursor
        return {key.to_user_string() for key in conditions(self.spec) if result.get_num_requested(key)}

    def rows(self) -> int:
        return self.lakehouse.read(RAW, self.lakehouse.require(RAW, made_by=RAW).version).count()


@pytest.fixture
def daemon(tmp_path: Path, lakehouse: Lakehouse, instance: dg.DagsterInstance) -> Daemon:
    return Daemon(tmp_path / "landing", lakehouse, instance)


def test_a_bad_file_beside_good_ones_is_set_aside_and_the_sets_follow_the_good_ones(daemon: Daemon):
    bad = replaced(transactions(seed=2), "amount", ["12,50"] * 50)
    write_csv(transactions(seed=1), daemon.landing / "a.csv")
    write_csv(bad, daemon.landing / "b.csv")
    write_csv(transactions(seed=3), daemon.landing / "c.csv")

    ran = daemon.land()

    assert ran == [False, True, False, False, True], "all; a; b and c; b; c"
    assert daemon.rows() == 1_200
    assert list(daemon.state.refused) == [str(daemon.landing / "b.csv")]
    asked = [daemon.look() for _ in range(24)]
    assert asked == [SETS] * 24, "at each hourly tick, as nobody makes them here"

    # Alone, a day later: nothing is written, and what was asked for still is.
    write_csv(bad, daemon.landing / "d.csv")
    assert daemon.land() == [False]
    assert daemon.rows() == 1_200
    assert [daemon.look() for _ in range(3)] == [SETS] * 3


@pytest.mark.proof  # several runs
def test_nothing_follows_a_table_that_is_not_sound_whatever_is_refused_afterwards(daemon: Daemon):
    """Somebody has deleted all frauds: no input does that, and the next run that looks at the table notices."""
    write_csv(transactions(seed=1), daemon.landing / "a.csv")
    assert daemon.land() == [True]
    DeltaTable(daemon.lakehouse.location(RAW)).delete("class = 1")
    replay = daemon.defs.resolve_job_def("replay_quarantine")
    failed = replay.execute_in_process(instance=daemon.instance, raise_on_error=False)
    assert [check.check_name for check in failed.get_asset_check_evaluations() if not check.passed] == ["both_classes"]

    assert [daemon.look() for _ in range(3)] == [set()] * 3
    write_csv(replaced(transactions(seed=2), "amount", ["12,50"] * 50), daemon.landing / "bad.csv")
    assert daemon.land() == [False]
    assert [daemon.look() for _ in range(3)] == [set()] * 3
    write_csv(transactions(seed=3), daemon.landing / "c.csv")
    assert daemon.land() == [True]
    assert daemon.look() == SETS
