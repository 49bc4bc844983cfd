"""Sensors: they start a run when something changes outside of Dagster.

What belongs here: thin shells that look, let a pure function decide, and request a run. What does not: the decisions
(`landing`, `watched_table`), how a run ended (`outcomes`), what runs after a load (`conditions`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.assets.origins import labels_from, observation, transactions_from
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.automation.jobs import LOAD_DATA, MERGE_LABELS, labels_only, op_config
from mlops_assets.automation.landing import LandingState, Order, Pace, decide
from mlops_assets.automation.outcomes import outcome_of
from mlops_assets.automation.retired import Retired, active
from mlops_assets.automation.watched_table import WatchState, follow
from mlops_assets.data.sources.arrivals import Arrivals
from mlops_assets.spec import FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.automation.landing import Decision
    from mlops_assets.data.sources.storage import Opener

NEW_FILES = "new_files"
NEW_LABELS = "new_labels"
NEW_VERSIONS = "new_versions"
VERSIONS_TAG = "mlops_assets/versions"
FILES_TAG = "mlops_assets/files"
ORDER_TAG = "mlops_assets/order"


def arrival_sensors(
    spec: FraudModelSpec,
    arrivals: Arrivals,
    *,
    status: dg.DefaultSensorStatus,
    retired: Retired = active,
    opened: Opener | None = None,
) -> list[dg.SensorDefinition]:
    """Return the sensors that a model's source of transactions can have.

    Args:
        spec: The model.
        arrivals: How it shows that there is something new.
        status: Whether they are on when nobody has switched them.
        retired: Says whether the model is retired; then nothing starts, and what arrives is not taken.
        opened: Opens the file system of a place of files; by default as this machine sees it.
    """
    if arrivals is Arrivals.FILES:
        return [new_files_sensor(spec, status=status, retired=retired, opened=opened)]
    if arrivals is Arrivals.VERSIONS:
        return [watched_table_sensor(spec, status=status, retired=retired)]
    return []


def label_sensors(
    spec: FraudModelSpec,
    arrivals: Arrivals,
    *,
    status: dg.DefaultSensorStatus,
    retired: Retired = active,
    opened: Opener | None = None,
) -> list[dg.SensorDefinition]:
    """Return the sensors that a model's late labels can have; see `arrival_sensors`."""
    if arrivals is not Arrivals.FILES:
        return []
    return [new_labels_sensor(spec, status=status, retired=retired, opened=opened)]


def new_files_sensor(
    spec: FraudModelSpec,
    *,
    status: dg.DefaultSensorStatus,
    pace: Pace | None = None,
    retired: Retired = active,
    opened: Opener | None = None,
) -> dg.SensorDefinition:
    """Return a sensor that loads the files that arrive in a model's landing folder.

    Args:
        spec: The model; its source is a folder or glob.
        status: Whether it starts switched on.
        pace: How quickly files are picked up.
        retired: As in `arrival_sensors`.
        opened: The same.
    """
    place = spec.source_place
    text = f"Loads files that arrive in {place}. A file is taken once it has stopped changing."

    def ops(order: Order) -> dict[str, Any]:
        return op_config(spec, RAW, {"source": {"location": order.location}})

    key, chosen = transactions_from(spec), pace or Pace()
    return _landing_sensor(
        spec, NEW_FILES, key, place, LOAD_DATA, ops, text, status=status, pace=chosen, retired=retired, opened=opened
    )


def new_labels_sensor(
    spec: FraudModelSpec,
    *,
    status: dg.DefaultSensorStatus,
    pace: Pace | None = None,
    retired: Retired = active,
    opened: Opener | None = None,
) -> dg.SensorDefinition:
    """Return a sensor that merges the files that arrive in a model's landing folder of labels.

    Args:
        spec: The model; it has a place of labels.
        status: Whether it starts switched on.
        pace: How quickly files are picked up.
        retired: As in `arrival_sensors`.
        opened: The same.
    """
    place = spec.labels or ""
    text = f"Merges labels that arrive in {place}. A file is taken once it has stopped changing."

    def ops(order: Order) -> dict[str, Any]:
        return op_config(spec, TRANSACTION_LABELS, {"location": order.location}) | labels_only(spec)

    key, chosen = labels_from(spec), pace or Pace()
    return _landing_sensor(
        spec,
        NEW_LABELS,
        key,
        place,
        MERGE_LABELS,
        ops,
        text,
        status=status,
        pace=chosen,
        retired=retired,
        opened=opened,
    )


def _landing_sensor(
    spec: FraudModelSpec,
    name: str,
    origin: dg.AssetKey,
    location: str,
    job: str,
    ops_of: Callable[[Order], dict[str, Any]],
    description: str,
    *,
    status: dg.DefaultSensorStatus,
    pace: Pace,
    retired: Retired,
    opened: Opener | None,
) -> dg.SensorDefinition:
    @dg.sensor(
        name=spec.prefixed(name),
        job_name=spec.prefixed(job),
        minimum_interval_seconds=pace.interval_seconds,
        default_status=status,
        description=description,
    )
    def landing(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        from mlops_assets.data.sources.listing import landed_files
        from mlops_assets.data.sources.storage import file_system

        listed = landed_files(location, opened or file_system)
        decision = decide(
            LandingState.from_cursor(context.cursor),
            listed,
            lambda key: outcome_of(context.instance, key, spec),
            time.time(),
            pace,
        )
        # The cursor stays: a model that is brought back goes on with the files that have arrived meanwhile.
        if decision.start is not None and (reason := retired()):
            return dg.SkipReason(reason)
        for file in decision.refused_now:
            context.log.error(
                f"{file.location} was refused and set aside; its run says why. It will be tried again when it changes."
            )
        cursor = decision.state.to_cursor()
        count = len(decision.fresh)
        marks = [file.mark for file in listed]
        seen = [observation(origin, marks, f"{count} new files", new_files=count, files=len(listed))] if count else []
        if decision.start is None:
            return dg.SensorResult(skip_reason=_why_not(decision, len(listed)), cursor=cursor, asset_events=seen)
        request = _request(spec, decision.start, ops_of(decision.start))
        return dg.SensorResult(run_requests=[request], cursor=cursor, asset_events=seen)

    return landing


def _request(spec: FraudModelSpec, order: Order, ops: dict[str, Any]) -> dg.RunRequest:
    names = [file.location for file in order.files]
    return dg.RunRequest(
        run_key=spec.prefixed(order.key),
        run_config={"ops": ops},
        tags={
            ORDER_TAG: order.key,
            FILES_TAG: f"{len(names)}: {_shortened(names)}",
        },
    )


def _why_not(decision: Decision, listed: int) -> str:
    state = decision.state
    parts = [f"{listed} files there, {decision.taken} taken"]
    if decision.waiting:
        parts.append(f"{decision.waiting} still being written")
    if decision.held:
        parts.append(f"{decision.held} for the next run")
    if state.orders:
        parts.append(f"{sum(len(order.files) for order in state.orders)} in a run or waiting for one")
    if state.refused:
        parts.append(f"{len(state.refused)} refused and set aside: {_shortened(sorted(state.refused))}")
    return "; ".join(parts)


def _shortened(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")  # noqa: PLR2004 - a few examples


def watched_table_sensor(
    spec: FraudModelSpec, *, status: dg.DefaultSensorStatus, pace: Pace | None = None, retired: Retired = active
) -> dg.SensorDefinition:
    """Return a sensor that loads the rows that someone else adds to a Delta table.

    Args:
        spec: The model; its source is the table.
        status: Whether it starts switched on.
        pace: How long the pauses before a retry are.
        retired: As in `arrival_sensors`.
    """
    location, origin = spec.source_place, transactions_from(spec)
    chosen = pace or Pace()

    @dg.sensor(
        name=spec.prefixed(NEW_VERSIONS),
        job_name=spec.prefixed(LOAD_DATA),
        minimum_interval_seconds=chosen.interval_seconds,
        default_status=status,
        description="Loads the rows that each new version of the watched Delta table adds; a look reads only its log.",
    )
    def new_versions(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from mlops_assets.data.sources.delta import newest_version

        table, newest = newest_version(location)
        before = WatchState.from_cursor(context.cursor)
        state, start = follow(
            before,
            table,
            newest,
            lambda key: outcome_of(context.instance, key, spec),
            time.time(),
            chosen,
        )
        is_new = (
            not spec.upstream
            and state.wanted is not None
            and (state.table, state.wanted) != (before.table, before.wanted)
        )
        seen = [observation(origin, [f"{table} {newest}"], f"version {newest}", version=newest)] if is_new else []
        if not start:
            doing = "nothing new" if state.wanted is None else f"version {state.wanted} is in a run or waiting for one"
            text = f"newest version {newest}, loaded up to {state.loaded}: {doing}"
            return dg.SensorResult(skip_reason=text, cursor=state.to_cursor(), asset_events=seen)
        if reason := retired():
            return dg.SensorResult(skip_reason=reason)
        wanted = {"after_version": state.loaded, "up_to_version": state.wanted}
        request = dg.RunRequest(
            run_key=spec.prefixed(state.key),
            run_config={"ops": op_config(spec, RAW, {"source": wanted})},
            tags={ORDER_TAG: state.key, VERSIONS_TAG: f"{state.loaded + 1} to {state.wanted}"},
        )
        return dg.SensorResult(run_requests=[request], cursor=state.to_cursor(), asset_events=seen)

    return new_versions
