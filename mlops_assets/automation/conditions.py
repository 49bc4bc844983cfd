"""Automatic materializations after a table has grown: conditions of two cost classes, each with its own sensor.

What belongs here: gathering facts from Dagster's event log, and binding decisions to assets. What does not: the
decisions (`triggers`), starting loads (`sensors`).

The conditions compare the actual state with the desired one ("the sets are cut from an older version than the raw table
has"); they do not react to events. An event during a run, or before a run that fails, would be lost; a state is still
there at the next evaluation. Each condition also requires three things:

- no run is materializing the asset;
- the last verdict of each blocking check of its dependencies is good, see `TablesAreSound`;
- it was not requested since the current quarter of an hour began, unless it was materialized since: a failing run is
  repeated four times an hour, not at each evaluation.
"""

from __future__ import annotations

import time
import warnings
from typing import Any

import dagster as dg

from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS
from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.automation.jobs import MODEL_TAG
from mlops_assets.automation.outcomes import was_refused
from mlops_assets.automation.triggers import SetsFact, TrainedFact, TrainingPace, training_due
from mlops_assets.dagster_internals import AssetCheckExecutionRecordStatus
from mlops_assets.lineage import DELTA_VERSION, LATE_LABELS, MLFLOW_RUN_ID, RAW_VERSION, ROW_COUNT, SET_VERSIONS
from mlops_assets.spec import FraudModelSpec

TABLES_SENSOR = "tables_follow"
TRAINING_SENSOR = "training_follows"
STARTED_BY_TAG = "mlops_assets/started_by"
_RETRY_CRON = "*/15 * * * *"
_INTERVAL_S = 30
# Enough materializations to find the sets that the last model was trained on.
_HISTORY = 500
_LAST_SET = TABLES["test"]


class SetsAreBehind(dg.AutomationCondition[dg.AssetKey]):
    """The raw table has a newer version than the sets were cut from."""

    def __init__(self, spec: FraudModelSpec) -> None:
        self._spec = spec

    @property
    def description(self) -> str:
        """The text in the UI."""
        return f"{RAW} has a newer version than the sets were cut from"

    def evaluate(self, context: dg.AutomationContext[dg.AssetKey]) -> dg.AutomationResult[dg.AssetKey]:
        """Compare the version of the raw table with the one that each set was cut from."""
        instance = context.asset_graph_view.instance
        raw = _raw_version(instance, self._spec)
        cut = [_latest(instance, key_of(self._spec, table), RAW_VERSION) for table in TABLES.values()]
        return _result(context, holds=raw is not None and any(version != raw for version in cut))


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
        instance, spec = context.asset_graph_view.instance, self._spec
        pace = TrainingPace(new_rows=spec.retrain_rows, days=spec.retrain_days)
        due = training_due(current_sets(instance, spec), last_training(instance, spec), time.time(), pace)
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
        instance = context.asset_graph_view.instance
        tuned, registered = (
            _latest(instance, key_of(self._spec, name), MLFLOW_RUN_ID) for name in (TUNED_MODEL, REGISTERED_MODEL)
        )
        return _result(context, holds=tuned is not None and registered != tuned)


class TablesAreSound(dg.AutomationCondition[dg.AssetKey]):
    """Each blocking check of a dependency judged its newest materialization, and passed.

    `AutomationCondition.eager()` ignores a check that failed in another run. `all_deps_blocking_checks_passed()` takes
    a run that was refused because of its input, and so had no table to check, for a failed check: one bad file stopped
    everything until the next load that succeeded.
    """

    def __init__(self, spec: FraudModelSpec) -> None:
        self._spec = spec

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
        checks = [check for parent in graph.get(context.key).parent_keys for check in graph.get(parent).check_keys]
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
                passed = record.status is AssetCheckExecutionRecordStatus.SUCCEEDED
                return passed and await record.targets_latest_materialization(view)
            if not was_refused(view.instance, record.run_id, self._spec):
                return False
            cursor = record.id
        return False


def conditions(spec: FraudModelSpec) -> dict[dg.AssetKey, dg.AutomationCondition[dg.AssetKey]]:
    """Return the condition of each asset of a model that is materialized automatically."""
    behind = SetsAreBehind(spec)
    sound = TablesAreSound(spec)
    sets = _carefully(behind, sound)
    followed = {
        **dict.fromkeys(TABLES.values(), sets),
        # Training on the old sets while new ones are being cut would mean paying for two trainings.
        TUNED_MODEL: _carefully(TrainingIsDue(spec) & ~behind, sound),
        REGISTERED_MODEL: _carefully(RegistrationIsBehind(spec), sound),
    }
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
    cheap = dg.AssetSelection.assets(*(key_of(spec, name) for name in (*TABLES.values(), REGISTERED_MODEL)))
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
                run_tags={STARTED_BY_TAG: name, MODEL_TAG: spec.title},
                description=text,
            )
            for name, target, text in (
                (TABLES_SENSOR, cheap, "Cuts the sets again when the raw table has grown, and registers tuned models."),
                (TRAINING_SENSOR, costly, "Tunes a model when enough has changed."),
            )
        ]


def _carefully(
    condition: dg.AutomationCondition[dg.AssetKey], sound: TablesAreSound
) -> dg.AutomationCondition[dg.AssetKey]:
    """Add the requirements that avoid too many runs, see the module's docstring."""
    requested = dg.AutomationCondition.newly_requested().since(
        dg.AutomationCondition.newly_updated() | dg.AutomationCondition.cron_tick_passed(_RETRY_CRON)
    )
    return (
        condition
        & ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.any_deps_missing()
        & sound
        & ~requested.with_label("asked for in this quarter of an hour, and not made since")
    )


def _result(context: dg.AutomationContext[dg.AssetKey], *, holds: bool) -> dg.AutomationResult[dg.AssetKey]:
    subset = context.candidate_subset if holds else context.get_empty_subset()
    return dg.AutomationResult(context, true_subset=subset)


# --- facts --------------------------------------------------------------------------------------------------------


def current_sets(instance: dg.DagsterInstance, spec: FraudModelSpec) -> SetsFact | None:
    """Return the sets of the last materialization; None if one is missing or they come from different versions."""
    counts = [_sets_of(instance, key_of(spec, table), limit=1) for table in TABLES.values()]
    versions = {version for sets in counts for version in sets}
    if len(versions) != 1 or not all(counts):
        return None
    version = versions.pop()
    return _together(version, [sets[version] for sets in counts])


def last_training(instance: dg.DagsterInstance, spec: FraudModelSpec) -> TrainedFact | None:
    """Return the sets that the last model was trained on, and when."""
    event = instance.get_latest_materialization_event(key_of(spec, TUNED_MODEL))
    if event is None or event.asset_materialization is None:
        return None
    test_version = event.asset_materialization.metadata.get(SET_VERSIONS["test"])
    raw_version = _raw_version_of(instance, spec, None if test_version is None else test_version.value)
    counts = [_sets_of(instance, key_of(spec, table), limit=_HISTORY).get(raw_version) for table in TABLES.values()]
    known = [pair for pair in counts if pair is not None]
    sets = _together(raw_version, known) if raw_version is not None and len(known) == len(counts) else None
    return TrainedFact(sets, event.timestamp)


def _together(version: Any, sets: list[tuple[int, int]]) -> SetsFact:
    return SetsFact(version, sum(rows for rows, _ in sets), sum(late for _, late in sets))


def _raw_version(instance: dg.DagsterInstance, spec: FraudModelSpec) -> Any:
    """Return the latest recorded version of the raw table, from a load or from a re-ingested past day."""
    records = [
        record
        for asset in (RAW, DAILY_ARRIVALS)
        for record in instance.fetch_materializations(key_of(spec, asset), limit=1).records
    ]
    versions = [
        (record.timestamp, record.asset_materialization.metadata[DELTA_VERSION].value)
        for record in records
        if record.asset_materialization is not None and DELTA_VERSION in record.asset_materialization.metadata
    ]
    return max(versions)[1] if versions else None


def _raw_version_of(instance: dg.DagsterInstance, spec: FraudModelSpec, test_version: Any) -> Any:
    """Return the version of the raw table that a version of the test set was cut from."""
    for metadata in _history(instance, key_of(spec, _LAST_SET), limit=_HISTORY):
        if metadata.get(DELTA_VERSION) == test_version:
            return metadata.get(RAW_VERSION)
    return None


def _sets_of(instance: dg.DagsterInstance, table: dg.AssetKey, *, limit: int) -> dict[Any, tuple[int, int]]:
    """Return rows and late labels of a set by version of the raw table, from its materializations, newest first."""
    counts: dict[Any, tuple[int, int]] = {}
    for metadata in _history(instance, table, limit=limit):
        if RAW_VERSION in metadata and ROW_COUNT in metadata:
            pair = int(metadata[ROW_COUNT]), int(metadata.get(LATE_LABELS, 0))
            counts.setdefault(metadata[RAW_VERSION], pair)
    return counts


def _history(instance: dg.DagsterInstance, asset: dg.AssetKey, *, limit: int) -> list[dict[str, Any]]:
    """Return the metadata of an asset's materializations, newest first."""
    records = instance.fetch_materializations(asset, limit=limit).records
    events = [record.asset_materialization for record in records]
    return [{name: value.value for name, value in event.metadata.items()} for event in events if event is not None]


def _latest(instance: dg.DagsterInstance, asset: dg.AssetKey, name: str) -> Any:
    history = _history(instance, asset, limit=1)
    return history[0].get(name) if history else None
