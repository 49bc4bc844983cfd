"""Automatic materializations after a table has grown: conditions of two cost classes, each with its own sensor.

What belongs here: binding decisions to assets. What does not: the facts (`facts`), the decisions (`triggers`), starting
loads (`sensors`).

The conditions compare the actual state with the desired one ("the sets are cut from other rows than the raw table
has"); they do not react to events. An event during a run, or before a run that fails, would be lost; a state is still
there at the next evaluation. Each condition also requires four things:

- no run is materializing the asset;
- the last verdict of each blocking check of its dependencies is good, see `TablesAreSound`;
- it was not requested since the current quarter of an hour began, unless it was materialized since: a failing run is
  repeated four times an hour, not at each evaluation;
- the model is not retired.
"""

from __future__ import annotations

import time
import warnings

import dagster as dg

from mlops_assets.assets.batch_scores import BATCH_SCORES, OF_RAW
from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.automation.facts import (
    current_sets,
    last_training,
    registration_is_behind,
    scores_are_behind,
    sets_are_behind,
    was_checked_by_load,
)
from mlops_assets.automation.outcomes import was_refused
from mlops_assets.automation.retired import IsActive, Retired, active
from mlops_assets.automation.triggers import TrainingPace, training_due
from mlops_assets.dagster_internals import AssetCheckExecutionRecordStatus
from mlops_assets.lineage import RUN_MODEL_TAG
from mlops_assets.spec import FraudModelSpec

TABLES_SENSOR = "tables_follow"
TRAINING_SENSOR = "training_follows"
STARTED_BY_TAG = "mlops_assets/started_by"
_RETRY_CRON = "*/15 * * * *"
_INTERVAL_S = 30
_Condition = dg.AutomationCondition[dg.AssetKey]


class SetsAreBehind(dg.AutomationCondition[dg.AssetKey]):
    """The raw table has other rows than the sets were cut from: another version, or it is another table."""

    def __init__(self, spec: FraudModelSpec) -> None:
        self._spec = spec

    @property
    def description(self) -> str:
        """The text in the UI."""
        return f"{RAW} has other rows than the sets were cut from"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the data version of the raw table with the one that each set was cut from."""
        return _result(context, holds=sets_are_behind(context.asset_graph_view, self._spec))


class TrainingIsDue(dg.AutomationCondition[dg.AssetKey]):
    """There are enough new rows with known labels, or the last model is old enough."""

    def __init__(self, spec: FraudModelSpec) -> None:
        self._spec = spec

    @property
    def description(self) -> str:
        """The text in the UI."""
        rows, days = self._spec.retrain_rows, self._spec.retrain_days
        return f"{rows:,} new rows with known labels, or {days:g} days, since the last model"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Gather the facts and decide."""
        view, spec = context.asset_graph_view, self._spec
        pace = TrainingPace(new_rows=spec.retrain_rows, days=spec.retrain_days)
        due = training_due(current_sets(view, spec), last_training(view, spec), time.time(), pace)
        context.log.info(f"{TUNED_MODEL}: {due.reason}")
        return _result(context, holds=due.is_due)


class RegistrationIsBehind(dg.AutomationCondition[dg.AssetKey]):
    """There is a tuned model that is not registered."""

    def __init__(self, spec: FraudModelSpec) -> None:
        self._spec = spec

    @property
    def description(self) -> str:
        """The text in the UI."""
        return f"{TUNED_MODEL} has a run that is not registered"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the MLflow runs of the tuned and the registered model."""
        return _result(context, holds=registration_is_behind(context.asset_graph_view, self._spec))


class ScoresAreBehind(dg.AutomationCondition[dg.AssetKey]):
    """The raw table has other rows than the champion has scored."""

    def __init__(self, spec: FraudModelSpec) -> None:
        self._spec = spec

    @property
    def description(self) -> str:
        """The text in the UI."""
        return f"{RAW} has other rows than were scored, and there is a champion"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the data version of the raw table with the one that was scored."""
        return _result(context, holds=scores_are_behind(context.asset_graph_view, self._spec))


class TablesAreSound(dg.AutomationCondition[dg.AssetKey]):
    """Each blocking check of a dependency judged its newest materialization, and passed; or the load itself did.

    `daily_arrivals` materializes the raw table only once it has judged it as the checks do (`CHECKED_BY_LOAD`).

    `AutomationCondition.eager()` ignores a check that failed in another run. `all_deps_blocking_checks_passed()` takes
    a run that was refused because of its input, and so had no table to check, for a failed check: one bad file stopped
    everything until the next load that succeeded.
    """

    def __init__(self, spec: FraudModelSpec, *, but: tuple[str, ...] = ()) -> None:
        self._spec, self._but = spec, {key_of(spec, name) for name in but}

    @property
    def description(self) -> str:
        """The text in the UI."""
        return "the blocking checks of all dependencies passed; runs whose input was refused do not count"

    async def evaluate(  # type: ignore[override] # Dagster awaits an `evaluate` that is a coroutine
        self, context: dg.AutomationContext[dg.AssetKey]
    ) -> dg.AutomationResult[dg.AssetKey]:
        """Look at the last verdict of each check."""
        if context.candidate_subset.is_empty:  # something else forbids it already, as at most ticks
            return _result(context, holds=False)
        graph = context.asset_graph
        parents = graph.get(context.key).parent_keys - self._but
        checks = [check for parent in parents for check in graph.get(parent).check_keys]
        for check in checks:
            if graph.get(check).blocking and not await self._passed(context, check):
                return _result(context, holds=False)
        return _result(context, holds=True)

    async def _passed(self, context: dg.AutomationContext[dg.AssetKey], check: dg.AssetCheckKey) -> bool:
        view = context.asset_graph_view
        cursor = None
        # Newest first; one at a time, because almost always the newest is the one.
        while page := view.instance.event_log_storage.get_asset_check_execution_history(check, 1, cursor):
            (record,) = page
            if record.status is not AssetCheckExecutionRecordStatus.PLANNED:
                if await record.targets_latest_materialization(view):
                    return record.status is AssetCheckExecutionRecordStatus.SUCCEEDED
                return check.asset_key == key_of(self._spec, RAW) and was_checked_by_load(view, self._spec)
            if not was_refused(view.instance, record.run_id, self._spec):
                return False
            cursor = record.id
        return False


def conditions(spec: FraudModelSpec, retired: Retired = active) -> dict[dg.AssetKey, _Condition]:
    """Return the condition of each asset of a model that is materialized automatically, unless it is retired."""
    behind, sound, alive = SetsAreBehind(spec), TablesAreSound(spec), IsActive(retired)
    sets = _carefully(behind, sound, alive)
    followed = {
        **dict.fromkeys(TABLES.values(), sets),
        # Training on the old sets while new ones are being cut would mean paying for two trainings.
        TUNED_MODEL: _carefully(TrainingIsDue(spec) & ~behind, sound, alive),
        REGISTERED_MODEL: _carefully(RegistrationIsBehind(spec), sound, alive),
    }
    if spec.batch_scores == OF_RAW:
        # A candidate that is in the making, or that the gate has refused, is no reason not to use the champion.
        of_table = TablesAreSound(spec, but=(REGISTERED_MODEL,))
        followed[BATCH_SCORES] = _carefully(ScoresAreBehind(spec), of_table, alive, deps=key_of(spec, RAW))
    return {key_of(spec, name): condition for name, condition in followed.items()}


def follow_sensors(
    spec: FraudModelSpec, status: dg.DefaultSensorStatus
) -> list[dg.AutomationConditionSensorDefinition]:
    """Return the sensors that evaluate the conditions: one for cheap assets, one for those that need a paid cluster.

    Dagster's own sensor for conditions is off until somebody switches it on; these follow the settings.

    Args:
        spec: The model.
        status: Whether they are on by default.
    """
    scores = (BATCH_SCORES,) if spec.batch_scores == OF_RAW else ()
    cheap = dg.AssetSelection.assets(*(key_of(spec, name) for name in (*TABLES.values(), REGISTERED_MODEL, *scores)))
    costly = dg.AssetSelection.assets(key_of(spec, TUNED_MODEL))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # two warnings at each load that a user can't fix
        return [
            dg.AutomationConditionSensorDefinition(
                spec.prefixed(name),
                target=target,
                default_status=status,
                minimum_interval_seconds=_INTERVAL_S,
                use_user_code_server=True,  # the daemon does not import this package, which has the conditions
                run_tags={STARTED_BY_TAG: name, RUN_MODEL_TAG: spec.title},
                description=text,
            )
            for name, target, text in (
                (
                    TABLES_SENSOR,
                    cheap,
                    "Cuts the sets again and scores when the raw table has grown; registers models.",
                ),
                (TRAINING_SENSOR, costly, "Tunes a model when enough has changed."),
            )
        ]


def _carefully(
    condition: _Condition, sound: TablesAreSound, alive: IsActive, *, deps: dg.AssetKey | None = None
) -> _Condition:
    """Add the requirements that avoid too many runs, see the module's docstring.

    Args:
        condition: What makes a run due.
        sound: Whose checks must have passed.
        alive: Whether the model is active.
        deps: The only dependency that must not be in progress; all of them when not given.
    """
    going, missing = dg.AutomationCondition.any_deps_in_progress(), dg.AutomationCondition.any_deps_missing()
    if deps is not None:
        going = going.allow(dg.AssetSelection.assets(deps))
    requested = dg.AutomationCondition.newly_requested().since(
        dg.AutomationCondition.newly_updated() | dg.AutomationCondition.cron_tick_passed(_RETRY_CRON)
    )
    return (
        condition
        & ~dg.AutomationCondition.in_progress()
        & ~going
        & ~missing
        & sound
        & ~requested.with_label("asked for in this quarter of an hour, and not made since")
        & alive
    )


def _result(context: dg.AutomationContext[dg.AssetKey], *, holds: bool) -> dg.AutomationResult[dg.AssetKey]:
    subset = context.candidate_subset if holds else context.get_empty_subset()
    return dg.AutomationResult(context, true_subset=subset)
