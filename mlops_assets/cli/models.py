"""`mlops models` and `mlops retire`: the models of a code location, and the end of one.

What belongs here: what is printed, and which parts of the platform a retirement goes through. What does not: the mark
(`registry/retirement`), which model is meant (`location`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final

import dagster as dg

from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.run_job import print_line
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.instance.run_launcher import fail_dead_runs
from mlops_assets.lineage import ROW_COUNT
from mlops_assets.registry.alias_moves import REGISTRATION_LOCK, ChampionLedger, Move
from mlops_assets.registry.retirement import bring_back, retire, retirement
from mlops_assets.registry.versions import CHAMPION, by_alias
from mlops_assets.registry.warehouse_ledger import ledger_of

if TYPE_CHECKING:
    from mlops_assets.resources.tracking import Tracking
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec

_HEAD: Final = ("model", "registered as", "champion", "age", "last load (UTC)", "rows", "table")
_NOTHING: Final = "-"
_MINUTE, _HOUR, _DAY = 60, 3_600, 86_400


@dataclass(frozen=True)
class _Load:
    """The newest load of a raw table: when (seconds since 1970), how many rows it has since then, and where it is."""

    at: float
    rows: str
    table: str


def run_models(settings: Settings, specs: Sequence[FraudModelSpec]) -> int:
    """Print one line for each model, and return the exit code.

    Raises:
        TrackingError: The registry can't be reached.
    """
    tracking = build_resources(settings)["tracking"] if has_registry(settings) else None
    loads = _loads(settings, specs)
    lines = [_HEAD, *(_line(spec, tracking, loads.get(spec.title)) for spec in specs)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print_line("  ".join(text.ljust(width) for text, width in zip(line, widths, strict=True)).rstrip())
    return DONE


def run_retire(settings: Settings, spec: FraudModelSpec, *, undo: bool) -> int:
    """Retire a model or bring it back, say what that means, and return the exit code.

    Raises:
        TrackingError: The registry can't be reached.
        LedgerError: The ledger of champions is not what was written.
        StorageError: A registration was running all the time.
    """
    resources = build_resources(settings)
    store, name = resources["tracking"].connect(spec.experiment), resources["tracking"].model(spec.registered_model)
    # Not while a run registers a version of it and sets the aliases.
    lakehouse = resources["lakehouse"].open(spec)
    ledger = ChampionLedger(store, name, ledger_of(lakehouse))
    with lakehouse.exclusive(REGISTRATION_LOCK):
        ledger.settle()
        mark = bring_back(store, name) if undo else retire(store, name)
        ledger.settle(Move("brought back" if undo else "retired", "`mlops retire`"))
    if mark is None:
        print_line(f"{spec.title} is not retired.")
        return DONE
    held = ", ".join(f"{alias} version {number}" for alias, number in mark.aliases.items())
    if undo:
        print_line(f"{spec.title} is active again; its aliases: {held or 'none'}.")
        print_line("Sensors, schedules and conditions go on at their next tick.")
        return DONE
    print_line(f"{spec.title} is retired since {mark.since} ({name}).")
    print_line(f"Aliases removed: {held or 'none'}. Tables, runs and versions are still there.")
    print_line(
        "Nothing of it starts by itself or can be trained or registered, and upkeep keeps no old versions for it."
    )
    print_line(f"To bring it back: mlops retire --undo --model {spec.title}")
    return DONE


def _line(spec: FraudModelSpec, tracking: Tracking | None, load: _Load | None) -> tuple[str, ...]:
    champion, age = (_NOTHING, _NOTHING) if tracking is None else _champion(spec, tracking)
    loaded = ("never", _NOTHING, _NOTHING) if load is None else (_minute(load.at), load.rows, load.table)
    return spec.title, spec.registered_model, champion, age, *loaded


def _champion(spec: FraudModelSpec, tracking: Tracking) -> tuple[str, str]:
    """Return the champion's version and age, or since when the model is retired."""
    store, name = tracking.connect(spec.experiment), tracking.model(spec.registered_model)
    mark = retirement(store, name)
    if mark is not None:
        return f"retired {mark.since[:10]}", _NOTHING
    with store.answering():
        version = by_alias(store, name, CHAMPION)
    return (_NOTHING, _NOTHING) if version is None else (f"version {version.number}", _age(version.created))


def has_registry(settings: Settings) -> bool:
    """Return whether there may be a registry: to look at one that does not exist would create it."""
    scheme, _, path = settings.mlflow_uri.partition(":///")
    return settings.target != "local" or scheme != "sqlite" or Path(path).is_file()


def _loads(settings: Settings, specs: Sequence[FraudModelSpec]) -> dict[str, _Load]:
    """Return the newest load of each model, by its title, from the instance's history."""
    if not (settings.dagster_home / "dagster.yaml").is_file():
        return {}
    found = {}
    with dg.DagsterInstance.from_config(str(settings.dagster_home)) as instance:
        fail_dead_runs(instance)
        for spec in specs:
            for record in instance.fetch_materializations(key_of(spec, RAW), limit=1).records:
                metadata = record.asset_materialization.metadata if record.asset_materialization else {}
                rows, table = metadata.get(ROW_COUNT), metadata.get("table")
                found[spec.title] = _Load(
                    record.timestamp,
                    _NOTHING if rows is None else f"{rows.value:,}",
                    _NOTHING if table is None else str(table.value),
                )
    return found


def _minute(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


def _age(since: float) -> str:
    seconds = max(0.0, time.time() - since)
    for unit, name in ((_DAY, "days"), (_HOUR, "hours"), (_MINUTE, "minutes")):
        if seconds >= 2 * unit:
            return f"{int(seconds // unit)} {name}"
    return f"{int(seconds)} seconds" if seconds < _MINUTE else "1 minute"
