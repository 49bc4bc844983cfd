"""The conditions, evaluated by Dagster over real runs on an instance of their own.

The assets here have the platform's names, dependencies, checks and metadata and no content: what they would make is
set by the test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import dagster as dg
import pytest
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

from mlops_assets.assets.batch_scores import BATCH_SCORES
from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.reporting import refusal
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.automation.conditions import conditions, follow_sensors
from mlops_assets.automation.facts import current_sets, last_training
from mlops_assets.automation.triggers import SetsFact
from mlops_assets.data.checks import CheckOutcome
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.ticking import Ticks
from mlops_assets_tests.assets.harness import spec_of

SETS = tuple(TABLES.values())


SPEC = spec_of(retrain_rows=100)
SCORED = spec_of(retrain_rows=100, batch_scores="raw")


@dataclass
class World(Ticks):
    """A code location whose tables grow as a test says, and the daemon's look at it.

    With `former`, records are those of releases that had no data versions.
    """

    defs: dg.Definitions = field(init=False)
    raw_version: int = 0
    rows: int = 300
    late: int = 0
    raw_is_good: bool = True
    past_day_has_files: bool = True
    refuses: bool = False
    dies: str = ""
    promotes: bool = True
    retired: str = ""
    broken: set[str] = field(default_factory=set)
    code: str = "1"
    table: str = "ab12"
    former: bool = False
    spec: FraudModelSpec = SPEC
    _made: dict[str, int] = field(default_factory=dict)
    _cut: tuple[str, str, int, int] = ("", "", 0, 0)

    def __post_init__(self) -> None:
        self.deploy()

    def deploy(self) -> None:
        """Load the code location, with whatever version the code has by now."""
        self.defs = dg.Definitions(assets=self._assets())

    def _why(self) -> str:
        return self.retired

    def _assets(self) -> list[dg.AssetsDefinition]:
        pace = {key.to_user_string(): condition for key, condition in conditions(self.spec, self._why).items()}

        @dg.asset(name=RAW, check_specs=[dg.AssetCheckSpec("good", asset=RAW, blocking=True)])
        def raw() -> Iterator[Any]:
            if self.refuses:
                raise (
                    refusal([CheckOutcome("types", passed=False, description="no number")], what="refused")
                    or AssertionError
                )
            if self.dies == "before it is materialized":
                raise MemoryError
            yield dg.MaterializeResult(
                asset_key=RAW, metadata={"delta_version": self.raw_version}, data_version=self._given(self._rows)
            )
            if self.dies == "before it is checked":
                raise MemoryError
            yield dg.AssetCheckResult(passed=self.raw_is_good, asset_key=RAW, check_name="good")

        @dg.multi_asset(
            name="splits",
            specs=[
                dg.AssetSpec(name, deps=[RAW], automation_condition=pace[name], code_version=self.code) for name in SETS
            ],
        )
        def splits() -> Iterator[Any]:
            self._fail_if_broken("splits")
            for name in SETS:
                self._made[name] = self._made.get(name, -1) + 1
                yield dg.MaterializeResult(
                    asset_key=name,
                    metadata={
                        "raw_version": self.raw_version,
                        "split_id": self._split,
                        "delta_version": self._made[name],
                        "dagster/row_count": self.rows // 3,
                        "late_labels": self.late // 3,
                        **({} if self.former else {"raw_data_version": self._rows}),
                    },
                    data_version=self._given(self._split),
                )
            self._cut = (self._split, self._rows, self.rows, self.late)

        @dg.asset(name=TUNED_MODEL, deps=list(SETS), automation_condition=pace[TUNED_MODEL], code_version=self.code)
        def tuned() -> Any:
            self._fail_if_broken(TUNED_MODEL)
            self._made[TUNED_MODEL] = self._made.get(TUNED_MODEL, -1) + 1
            run = f"run{self._made[TUNED_MODEL]}"
            return dg.MaterializeResult(
                metadata={"mlflow_run_id": run, **self._trained_on()}, data_version=self._given(run)
            )

        gate = dg.AssetCheckSpec("promotion_gate", asset=REGISTERED_MODEL, blocking=True)

        @dg.asset(
            name=REGISTERED_MODEL,
            deps=[TUNED_MODEL],
            automation_condition=pace[REGISTERED_MODEL],
            check_specs=[gate],
        )
        def registered() -> Iterator[Any]:
            yield dg.MaterializeResult(
                metadata={"mlflow_run_id": f"run{self._made[TUNED_MODEL]}", "promoted": self.promotes}
            )
            yield dg.AssetCheckResult(
                passed=self.promotes, check_name="promotion_gate", severity=dg.AssetCheckSeverity.WARN
            )

        @dg.asset(name=BATCH_SCORES, deps=[RAW, REGISTERED_MODEL], automation_condition=pace.get(BATCH_SCORES))
        def scores() -> Any:
            self._fail_if_broken(BATCH_SCORES)
            return dg.MaterializeResult(metadata={"raw_data_version": self._rows})

        return [raw, splits, tuned, registered, self._arrivals(), *([scores] if self.spec.batch_scores else [])]

    def _arrivals(self) -> dg.AssetsDefinition:
        @dg.asset(name=DAILY_ARRIVALS, output_required=False)
        def arrivals() -> Iterator[Any]:
            version = {"delta_version": self.raw_version}
            if self.past_day_has_files:
                checked = {"checked_by_load": True} if self.raw_is_good else {}
                yield dg.AssetMaterialization(RAW, metadata={**version, **checked}, tags=self._tags())
            yield dg.AssetMaterialization(DAILY_ARRIVALS, metadata=version, tags=self._tags())

        return arrivals

    def _trained_on(self) -> dict[str, Any]:
        versions = {f"{name}_version": self._made[table] for name, table in TABLES.items()}
        split, raw, rows, late = self._cut
        cut = {"split_id": split, "raw_data_version": raw, "trained_rows": rows, "late_labels": late}
        return versions if self.former else versions | cut

    @property
    def _rows(self) -> str:
        return f"{self.raw_version}-{self.table}"

    @property
    def _split(self) -> str:
        return f"split of {self._rows}"

    def _tags(self) -> dict[str, str]:
        given = {"dagster/data_version": self._rows, "dagster/data_version_is_user_provided": "true"}
        return {} if self.former else given

    def _given(self, version: str) -> dg.DataVersion | None:
        return None if self.former else dg.DataVersion(version)

    def _fail_if_broken(self, what: str) -> None:
        if what in self.broken:
            raise dg.Failure(f"{what} is broken")

    def load(self, rows: int, *, good: bool = True) -> None:
        """Bring new rows, and leave a table that its blocking check passes or not."""
        self.raw_is_good = good
        self.raw_version, self.rows = self.raw_version + 1, self.rows + rows
        self.execute({RAW})

    def refuse(self, runs: int = 1) -> None:
        """Bring input that is refused whole, so that nothing is written or checked."""
        self.refuses = True
        for _ in range(runs):
            assert not self.execute({RAW})
        self.refuses = False

    def die(self, when: str) -> None:
        """Bring new rows in a run that ends before the table's check."""
        self.dies, self.raw_version = when, self.raw_version + 1
        assert not self.execute({RAW})
        self.dies = ""

    @property
    def view(self) -> LoadingContextForTest:
        """What an evaluation reads records through."""
        return LoadingContextForTest(self.instance)

    def stale(self) -> set[str]:
        """Return the assets that Dagster's UI would show as not up to date."""
        graph = self.defs.resolve_asset_graph()
        status = CachingStaleStatusResolver(self.instance, graph, LoadingContextForTest(self.instance))
        return {
            key.to_user_string() for key in graph.get_all_asset_keys() if status.get_status(key) is StaleStatus.STALE
        }

    def deliver_again(self, rows: int) -> None:
        """Bring rows of a past day, or of none."""
        self.past_day_has_files = rows > 0
        self.raw_version, self.rows = self.raw_version + bool(rows), self.rows + rows
        self.execute({DAILY_ARRIVALS})


@pytest.fixture
def world(instance: dg.DagsterInstance) -> World:
    return World(instance)


def test_a_first_load_leads_to_a_registered_model_and_then_to_rest(world: World):
    assert world.settle() == [], "an empty place is left alone"
    world.load(0)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]
    assert world.settle() == []


def test_nothing_follows_a_load_of_a_retired_model_until_it_is_brought_back(world: World):
    world.retired = "the model was retired"
    world.execute([RAW])
    assert [world.look(20) for _ in range(3)] == [set()] * 3

    world.retired = ""

    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


def test_a_model_that_is_not_promoted_is_not_registered_again(world: World):
    world.promotes = False
    world.load(0)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]
    assert [world.look(20) for _ in range(4)] == [set()] * 4
    world.load(498)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}], "the next model has its own chance"


def test_new_rows_are_scored_once_there_is_a_champion_whatever_the_next_candidates_do(instance: dg.DagsterInstance):
    world = World(instance, spec=SCORED)
    world.promotes = False
    world.load(0)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}], "nobody is champion"
    world.promotes = True
    world.load(120)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}, {BATCH_SCORES}]
    world.promotes = False
    world.load(120)
    assert world.settle() == [{*SETS, BATCH_SCORES}, {TUNED_MODEL}, {REGISTERED_MODEL}]
    world.load(10)
    assert world.settle() == [{*SETS, BATCH_SCORES}], "the refused candidate does not stand in the way"
    world.load(10, good=False)
    assert world.settle() == [], "a table that did not pass its check is not scored"


def test_few_new_rows_are_cut_and_not_trained_on_until_they_are_enough(world: World):
    world.load(0)
    world.settle()
    world.load(60)
    assert world.settle() == [set(SETS)]
    world.load(60)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}], "120 rows since the last model"
    assert current_sets(world.view, SPEC) == SetsFact("split of 3-ab12", 420, table="ab12")
    trained = last_training(world.view, SPEC)
    assert trained is not None
    assert trained.sets == SetsFact("split of 3-ab12", 420, table="ab12")


def test_a_load_that_adds_nothing_starts_nothing_and_leaves_the_sets_up_to_date(world: World):
    world.load(0)
    world.settle()
    world.execute({RAW})
    assert world.stale() == set()
    assert world.settle() == []

    world.load(30)
    assert world.stale() >= set(SETS), "changed data do"
    assert world.settle() == [set(SETS)]


def test_another_table_is_other_data_although_its_version_has_the_same_number(world: World):
    """The source was switched: the new database begins with the same version."""
    world.load(0)
    world.settle()
    world.table = "cd34"
    world.execute({RAW})
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


# --- histories of homes with records of before there were data versions -----------------------------------------------


def test_a_former_history_at_rest_stays_at_rest(world: World):
    world.former = True
    world.load(0)
    world.settle()
    world.former = False
    world.execute({RAW})
    assert world.settle() == [], "a load that adds nothing, with a data version that nothing can be compared with"


def test_a_former_history_goes_on_with_the_next_load_cut_and_search(world: World):
    world.former = True
    world.load(0)
    world.settle()
    world.load(60)
    assert world.settle() == [set(SETS)], "too few rows for a search"
    trained = last_training(world.view, SPEC)
    assert trained is not None
    assert trained.sets == SetsFact("split of 1-ab12", 300), "looked up among the sets' records"

    world.former = False
    world.load(30)
    assert world.settle() == [set(SETS)], "90 rows since the last model, whose record does not say so"
    world.load(30)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}], "120 rows"
    world.load(30)
    assert world.settle() == [set(SETS)]


def test_a_former_model_whose_sets_are_not_on_record_is_trained_again(world: World):
    world.former = True
    world.load(0)
    world.settle()
    world.instance.wipe_assets([dg.AssetKey(name) for name in SETS])
    world.former = False
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


def test_a_past_day_that_brings_rows_is_followed_like_a_load_and_one_that_brings_none_is_not(world: World):
    world.load(0)
    world.settle()
    world.deliver_again(0)
    assert world.settle() == []
    world.deliver_again(200)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]
    world.load(0)
    assert world.settle() == [set(SETS)], "the newest of the two counts"


def test_a_past_day_is_followed_though_only_its_load_has_judged_the_table(world: World):
    world.load(0, good=False)
    assert world.settle() == [], "the table's own check failed"

    world.raw_is_good = True
    world.deliver_again(200)

    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]
    world.load(200, good=False)
    assert world.settle() == [], "the newest verdict counts"


def test_a_table_that_is_materialized_without_any_verdict_is_not_followed(world: World):
    world.load(0)
    world.settle()

    world.raw_is_good = False
    world.deliver_again(200)

    assert world.settle() == []


def test_a_past_day_does_not_hide_a_load_that_ended_before_the_check(world: World):
    world.load(0)
    world.settle()
    world.die("before it is checked")

    world.deliver_again(200)

    assert world.settle() == []


def test_refused_input_holds_up_nothing(world: World):
    """The bad file alone, once the good ones beside it are in: nothing of that run can be said of the table."""
    world.load(0)
    world.settle()
    world.load(200)
    world.refuse(runs=3)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]
    world.refuse()
    assert world.settle() == [], "there is no new version"


def test_refused_input_makes_no_table_sound(world: World):
    world.load(0)
    world.settle()
    world.load(200, good=False)
    world.refuse(runs=2)
    assert [world.look(60) for _ in range(24)] == [set()] * 24
    world.load(0)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


@pytest.mark.parametrize("when", ["before it is materialized", "before it is checked"])
def test_nothing_follows_a_run_that_ended_before_the_check_until_it_is_repeated(world: World, when: str):
    """It may have committed rows that no check has seen; a refused file afterwards changes nothing about that."""
    world.load(0)
    world.settle()
    world.load(200)
    world.die(when)
    assert [world.look(60) for _ in range(3)] == [set()] * 3
    world.refuse()
    assert [world.look(60) for _ in range(3)] == [set()] * 3
    world.load(0)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


def test_nothing_follows_a_failed_blocking_check_until_it_passes(world: World):
    world.load(0)
    world.settle()
    world.load(200, good=False)
    assert world.settle() == [], "there is a new version, and it is not sound"
    world.load(0)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


def test_a_signal_during_a_run_is_not_lost(world: World):
    world.load(0)
    assert world.look() == set(SETS)
    world.execute(set(SETS))
    world.load(498)  # before anybody has looked again
    ran = world.settle()
    assert ran[0] == {*SETS}, "cut anew, although the last cut is younger than the last look"
    assert current_sets(world.view, SPEC) == SetsFact("split of 2-ab12", 798, table="ab12")


def test_a_run_that_fails_is_repeated_each_quarter_of_an_hour_and_not_at_each_look(world: World):
    world.load(0)
    world.broken.add(TUNED_MODEL)
    asked = []
    for _ in range(45):
        wanted = world.look()
        asked.append(TUNED_MODEL in wanted)
        if wanted:
            world.execute(wanted)
    assert 3 <= sum(asked) <= 4, "at first, and in each of three quarters of an hour"
    world.broken.clear()
    assert world.look(15) == {TUNED_MODEL}
    world.execute({TUNED_MODEL})
    assert world.settle() == [{REGISTERED_MODEL}]


def test_while_a_run_goes_on_nothing_of_it_is_asked_for_again_nor_what_is_made_of_it(world: World):
    world.load(0)
    going = world.start(set(SETS))
    assert [world.look(20) for _ in range(4)] == [set()] * 4
    world.instance.report_run_failed(going)
    assert world.look(20) == set(SETS)


def test_a_canceled_run_is_asked_for_again(world: World):
    world.load(0)
    assert world.settle()[0] == set(SETS)
    world.load(498)
    assert world.look() == set(SETS)
    canceled = world.start(set(SETS))
    world.instance.report_run_canceling(canceled)
    assert world.look() == set()
    world.instance.report_run_canceled(canceled)
    assert world.look(20) == set(SETS)
    world.execute(set(SETS))
    assert world.settle() == [{TUNED_MODEL}, {REGISTERED_MODEL}]


def test_changed_code_starts_nothing_by_itself(world: World):
    """A search costs money: who changes the code decides what is made anew."""
    world.load(0)
    world.settle()
    world.code = "2"
    world.deploy()
    assert [world.look(20) for _ in range(3)] == [set()] * 3
    world.load(498)
    assert world.settle() == [set(SETS), {TUNED_MODEL}, {REGISTERED_MODEL}]


def test_labels_alone_make_training_due_in_time(world: World, monkeypatch: pytest.MonkeyPatch):
    """A label in the place of another brings no row; the raw table has a new version all the same."""
    world.load(0)
    world.settle()
    world.late = 30
    world.load(0)
    assert world.settle() == [set(SETS)]
    trained = last_training(world.view, SPEC)
    assert trained is not None
    assert (current_sets(world.view, SPEC), trained.sets) == (
        SetsFact("split of 2-ab12", 300, 30, "ab12"),
        SetsFact("split of 1-ab12", 300, 0, "ab12"),
    )
    monkeypatch.setattr("mlops_assets.automation.conditions.time.time", lambda: trained.at + 8 * 86_400)
    assert world.settle() == [{TUNED_MODEL}, {REGISTERED_MODEL}]


def test_enough_time_is_as_good_as_enough_rows(world: World, monkeypatch: pytest.MonkeyPatch):
    world.load(0)
    world.settle()
    world.load(3)
    assert world.settle() == [set(SETS)]
    trained = last_training(world.view, SPEC)
    assert trained is not None
    monkeypatch.setattr("mlops_assets.automation.conditions.time.time", lambda: trained.at + 8 * 86_400)
    assert world.settle() == [{TUNED_MODEL}, {REGISTERED_MODEL}]


def test_each_cost_class_has_a_sensor_and_both_follow_the_switch():
    sensors = follow_sensors(SPEC, dg.DefaultSensorStatus.RUNNING)
    assert [sensor.name for sensor in sensors] == ["tables_follow", "training_follows"]
    assert {sensor.default_status for sensor in sensors} == {dg.DefaultSensorStatus.RUNNING}
    off = follow_sensors(SPEC, dg.DefaultSensorStatus.STOPPED)
    assert {sensor.default_status for sensor in off} == {dg.DefaultSensorStatus.STOPPED}
