"""`mlops champion`, `mlops rollback` and `mlops approve`: who was champion when, the way back, and a person's yes.

What belongs here: what is printed. What does not: the ledger and the moves (`registry/ledger`, `registry/alias_moves`),
which model is meant (`location`). No command here starts Spark.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.models import has_registry
from mlops_assets.cli.run_job import print_line
from mlops_assets.errors import TrackingError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.registry.alias_moves import REGISTRATION_LOCK, ChampionLedger, Move
from mlops_assets.registry.approval import approve
from mlops_assets.registry.ledger import NOBODY, carried_out, champion_at
from mlops_assets.registry.versions import CHAMPION, by_alias

if TYPE_CHECKING:
    from mlops_assets.registry.ledger import Entry
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec


def run_champion(settings: Settings, spec: FraudModelSpec, at: datetime | None) -> int:
    """Print who was champion at a moment, or the whole history; changes nothing. Return the exit code.

    Raises:
        LedgerError: The ledger is not what was written.
        TrackingError: The registry can't be reached.
    """
    if not has_registry(settings):
        print_line(f"{spec.title} has no registered version yet.")
        return DONE
    ledger = _ledger(build_resources(settings), spec)
    _require_table(ledger)
    entries = ledger.entries()
    if at is not None:
        entry = champion_at(entries, at)
        before = f"the ledger knows nothing of {at.isoformat()}; it begins later"
        print_line(before if entry is None else _sentence(entry))
        return DONE
    for entry in carried_out(entries):
        print_line(_sentence(entry))
    with ledger.store.answering():
        found = by_alias(ledger.store, ledger.name, CHAMPION)
    now, known = NOBODY if found is None else found.number, entries[-1].to_version if entries else NOBODY
    if now != known:
        print_line(f"Now {_name(now)} is champion: another client has moved the alias. The next run writes that down.")
    elif not entries:
        print_line(f"{spec.title} has no champion yet.")
    return DONE


def run_rollback(settings: Settings, spec: FraudModelSpec, to: int | None, reason: str) -> int:
    """Make an older version champion again, say so, and return the exit code.

    Raises:
        LedgerError: The ledger is not what was written.
        TrackingError: There is no such version, it is broken, or the registry can't be reached.
        StorageError: A registration was running all the time.
    """
    resources = build_resources(settings)
    ledger = _ledger(resources, spec)
    with resources["lakehouse"].open(spec).exclusive(REGISTRATION_LOCK):
        left, taken = ledger.rollback(to, Move("rolled back", reason))
    print_line(f"{ledger.name}: {_name(taken)} is champion again, instead of {_name(left)} ({reason}).")
    if left != NOBODY:
        print_line(f"The gate does not promote version {left} again; `mlops rollback --to {left}` does.")
    return DONE


def run_approve(settings: Settings, spec: FraudModelSpec, version: int, reason: str) -> int:
    """Approve a version, say whether it is champion now, and return the exit code.

    Raises:
        LedgerError: The ledger is not what was written.
        TrackingError: The version can't be approved, or the registry can't be reached.
        StorageError: A registration was running all the time.
    """
    resources = build_resources(settings)
    ledger = _ledger(resources, spec)
    with resources["lakehouse"].open(spec).exclusive(REGISTRATION_LOCK):
        approved, needed = approve(ledger, version, reason)
    done = "it is champion now" if approved >= needed else f"{needed - approved} more needed"
    print_line(f"{ledger.name}: version {version} has {approved} of {needed} approvals; {done}.")
    return DONE


def _ledger(resources: dict[str, Any], spec: FraudModelSpec) -> ChampionLedger:
    tracking = resources["tracking"]
    store, name = tracking.connect(spec.experiment), tracking.model(spec.registered_model)
    return ChampionLedger.of(store, name, resources["lakehouse"].open(spec))


def _require_table(ledger: ChampionLedger) -> None:
    if ledger.table is None:
        raise TrackingError(
            "no ledger of champions is kept: the tables are a catalog's, and the profile names no SQL warehouse",
            where=ledger.name,
            fix="set `warehouse_id` in the Databricks profile; what was before is in the tags of the versions",
        )


def _sentence(entry: Entry) -> str:
    since = datetime.fromisoformat(entry.at).astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    return f"{since}  {_name(entry.to_version)}  {entry.event}: {entry.reason}  ({entry.actor or 'unknown'})"


def _name(version: int) -> str:
    return "nobody" if version == NOBODY else f"version {version}"
