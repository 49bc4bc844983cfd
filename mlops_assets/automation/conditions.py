"""What follows by itself when a table has grown: conditions of two cost classes, each with a sensor of its own.

What belongs here: gathering facts from Dagster's event log, and binding decisions to assets. What does not: the
decisions (`triggers`), what starts a load (`sensors`).

The conditions compare what is with what should be ("the sets are cut from an older version than the raw table has");
they do not wait for an event to pass by. An event that comes while a run is going, or before a run that fails, would
be lost; a state is still there at the next look. Three things are added to each of them:

- no run that makes the asset is going;
- the blocking checks of what it depends on have passed: `AutomationCondition.eager()` ignores one that failed in
  another run;
- it was not asked for since the last quarter of an hour began, unless it has been made since: a run that fails is
  repeated four times an hour, not at each look.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import dagster as dg

from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.automation.triggers import SetsFact, TrainedFact, TrainingPace, training_due
from mlops_assets.lineage import DELTA_VERSION, LATE_LABELS, MLFLOW_RUN_ID, RAW_VERSION, ROW_COUNT, SET_VERSIONS

TABLES_SENSOR = "tables_follow"
TRAINING_SENSOR = "training_follows"
_RETRY_CRON = "*/15 * * * *"
_INTERVAL_S = 30
# Far enough back to find the sets that the last model was made of.
_HISTORY = 500
_LAST_SET = TABLES["test"]


class SetsAreBehind(dg.AutomationCondition[dg.AssetKey]):
    """The raw table has a version that the sets were not cut from."""

    @property
    def description(self) -> str:
        """What the UI shows."""
        return f"{RAW} has a newer version than the sets were cut from"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the version of the raw table with the one that each set names."""
        instance = context.asset_graph_view.instance
        raw = _raw_version(instance)
        cut = [_latest(instance, table, RAW_VERSION) for table in TABLES.values()]
        return _result(context, holds=raw is not None and any(version != raw for version in cut))


class TrainingIsDue(dg.AutomationCondition[dg.AssetKey]):
    """Enough new rows with known labels, or enough time since the last model."""

    def __init__(self, pace: TrainingPace) -> None:
        self._pace = pace

    @property
    def description(self) -> str:
        """What the UI shows."""
        pace = self._pace
        return f"{pace.new_rows:,} new rows with known labels, or {pace.days:g} days, since the last model"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Gather the facts and decide."""
        instance = context.asset_graph_view.instance
        due = training_due(current_sets(instance), last_training(instance), time.time(), self._pace)
        context.log.info(f"{TUNED_MODEL}: {due.reason}")
        return _result(context, holds=due.is_due)


class RegistrationIsBehind(dg.AutomationCondition[dg.AssetKey]):
    """There is a tuned model that was not registered."""

    @property
    def description(self) -> str:
        """What the UI shows."""
        return f"{TUNED_MODEL} has a run that is not registered"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the MLflow runs of the two."""
        instance = context.asset_graph_view.instance
        tuned = _latest(instance, TUNED_MODEL, MLFLOW_RUN_ID)
        return _result(context, holds=tuned is not None and _latest(instance, REGISTERED_MODEL, MLFLOW_RUN_ID) != tuned)


def conditions(pace: TrainingPace) -> dict[str, dg.AutomationCondition[dg.AssetKey]]:
    """Return the condition of each asset that follows by itself.

    Args:
        pace: How much must have changed before a model is trained anew.
    """
    behind = SetsAreBehind()
    sets = _carefully(behind)
    return {
        **dict.fromkeys(TABLES.values(), sets),
        # While newer sets are on their way, training on the older ones would be paid for twice.
        TUNED_MODEL: _carefully(TrainingIsDue(pace) & ~behind),
        REGISTERED_MODEL: _carefully(RegistrationIsBehind()),
    }


def follow_sensors(status: dg.DefaultSensorStatus) -> list[dg.AutomationConditionSensorDefinition]:
    """Return the sensors that evaluate the conditions: one for what is cheap, one for what a cluster is paid for.

    Dagster's own sensor for conditions is off until somebody switches it on; these are as the settings say.

    Args:
        status: Whether they are on when nobody has switched them.
    """
    cheap = dg.AssetSelection.assets(*TABLES.values(), REGISTERED_MODEL)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # two at each load, and nothing a user could fix
        return [
            dg.AutomationConditionSensorDefinition(
                name,
                target=target,
                default_status=status,
                minimum_interval_seconds=_INTERVAL_S,
                use_user_code_server=True,  # the conditions are this package's, which the daemon does not import
                run_tags={"mlops_assets/started_by": name},
                description=text,
            )
            for name, target, text in (
                (TABLES_SENSOR, cheap, "Cuts the sets anew when the raw table has grown, registers what was tuned."),
                (TRAINING_SENSOR, dg.AssetSelection.assets(TUNED_MODEL), "Tunes a model when enough has changed."),
            )
        ]


def _carefully(wanted: dg.AutomationCondition[dg.AssetKey]) -> dg.AutomationCondition[dg.AssetKey]:
    """Add to a condition what keeps it from starting too much, see the module's docstring."""
    asked = dg.AutomationCondition.newly_requested().since(
        dg.AutomationCondition.newly_updated() | dg.AutomationCondition.cron_tick_passed(_RETRY_CRON)
    )
    return (
        wanted
        & ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.any_deps_missing()
        & dg.AutomationCondition.all_deps_blocking_checks_passed()
        & ~asked.with_label("asked for in this quarter of an hour, and not made since")
    )


def _result(context: dg.AutomationContext[dg.AssetKey], *, holds: bool) -> dg.AutomationResult[dg.AssetKey]:
    subset = context.candidate_subset if holds else context.get_empty_subset()
    return dg.AutomationResult(context, true_subset=subset)


# --- facts --------------------------------------------------------------------------------------------------------


def current_sets(instance: dg.DagsterInstance) -> SetsFact | None:
    """Return the sets as they were last materialized; None if one is missing or they do not belong together."""
    found = [_sets_of(instance, table, limit=1) for table in TABLES.values()]
    versions = {version for sets in found for version in sets}
    if len(versions) != 1 or not all(found):
        return None
    version = versions.pop()
    return _together(version, [sets[version] for sets in found])


def last_training(instance: dg.DagsterInstance) -> TrainedFact | None:
    """Return what the last model was made of, and when."""
    event = instance.get_latest_materialization_event(dg.AssetKey(TUNED_MODEL))
    if event is None or event.asset_materialization is None:
        return None
    test_version = event.asset_materialization.metadata.get(SET_VERSIONS["test"])
    raw_version = _raw_version_of(instance, None if test_version is None else test_version.value)
    found = [_sets_of(instance, table, limit=_HISTORY).get(raw_version) for table in TABLES.values()]
    known = [counts for counts in found if counts is not None]
    sets = _together(raw_version, known) if raw_version is not None and len(known) == len(found) else None
    return TrainedFact(sets, event.timestamp)


def _together(version: Any, sets: list[tuple[int, int]]) -> SetsFact:
    return SetsFact(version, sum(rows for rows, _ in sets), sum(late for _, late in sets))


def _raw_version(instance: dg.DagsterInstance) -> Any:
    """Return the version of the raw table that was told last, by a load or by a past day delivered again."""
    records = [
        record
        for asset in (RAW, DAILY_ARRIVALS)
        for record in instance.fetch_materializations(dg.AssetKey(asset), limit=1).records
    ]
    told = [
        (record.timestamp, record.asset_materialization.metadata[DELTA_VERSION].value)
        for record in records
        if record.asset_materialization is not None and DELTA_VERSION in record.asset_materialization.metadata
    ]
    return max(told)[1] if told else None


def _raw_version_of(instance: dg.DagsterInstance, test_version: Any) -> Any:
    """Return the version of the raw table that a version of the test set was cut from."""
    for metadata in _history(instance, _LAST_SET, limit=_HISTORY):
        if metadata.get(DELTA_VERSION) == test_version:
            return metadata.get(RAW_VERSION)
    return None


def _sets_of(instance: dg.DagsterInstance, table: str, *, limit: int) -> dict[Any, tuple[int, int]]:
    """Return rows and late labels of a set by version of the raw table, as its materializations say, newest first."""
    found: dict[Any, tuple[int, int]] = {}
    for metadata in _history(instance, table, limit=limit):
        if RAW_VERSION in metadata and ROW_COUNT in metadata:
            counts = int(metadata[ROW_COUNT]), int(metadata.get(LATE_LABELS, 0))
            found.setdefault(metadata[RAW_VERSION], counts)
    return found


def _history(instance: dg.DagsterInstance, asset: str, *, limit: int) -> list[dict[str, Any]]:
    """Return the metadata of an asset's materializations, newest first."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=limit).records
    events = [record.asset_materialization for record in records]
    return [{name: value.value for name, value in event.metadata.items()} for event in events if event is not None]


def _latest(instance: dg.DagsterInstance, asset: str, name: str) -> Any:
    history = _history(instance, asset, limit=1)
    return history[0].get(name) if history else None
