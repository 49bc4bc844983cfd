"""`mlops erase`: a customer or card is erased from tables and log, and shown to be.

What belongs here: what is looked at beside the tables, and what is printed. What does not: erasing
(`lakehouse/erasure`, `lakehouse/erased_predictions`). No Dagster run is started: it would keep the value in its config.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.cli.exit_codes import DONE, FAILED
from mlops_assets.cli.models import has_registry
from mlops_assets.cli.run_job import print_line
from mlops_assets.errors import StorageError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lakehouse.commits import StaleBaseError
from mlops_assets.lakehouse.erased_predictions import erase_from_log, rows_in_log
from mlops_assets.lakehouse.erasure import Eraser
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets.registry.pins import pins_of_models
from mlops_assets.serving.entities import EntityHash, secret_of
from mlops_assets.serving.log.waiting import rows_waiting
from mlops_assets.spec import INFERENCE_LOG

if TYPE_CHECKING:
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec

# Shorter values, and small numbers, are in every file.
_SEARCHABLE: Final = 6
_SALT: Final = "entity.salt"
_NAMED: Final = 5
_SKIPPED: Final = frozenset({"jars", "spark"})


@dataclass(frozen=True)
class _Log:
    """The log of predictions of a model.

    Attributes:
        folder: Folder of its table.
        segments: Folder of what is on its way there.
        hashes: What stands for the entities in it; empty if nothing was ever served.
        elsewhere: Address to which predictions are written, or from which they come, if it is no table in a folder.
    """

    folder: Path
    segments: Path
    hashes: Sequence[str]
    elsewhere: str


def run_erase(settings: Settings, spec: FraudModelSpec, entities: Sequence[str], *, confirmed: bool) -> int:
    """Show what is held of entities and, if that is confirmed, erase it; return the exit code.

    Raises:
        PlatformError: They can't be erased, or a table can't be read or written.
    """
    resources = build_resources(settings)
    lakehouse = resources["lakehouse"].open(spec)
    eraser = Eraser(TransactionStore(lakehouse, spec.contract), entities)
    log = _log_of(settings, spec, entities)
    print_line(f"{spec.contract.entity} {', '.join(entities)} in {spec.database}")
    held = eraser.find()
    in_log = rows_in_log(log.folder, log.hashes) if log.hashes else 0
    for table in sorted({*held.rows, *held.files}):
        print_line(f"  {table:<26}{held.rows.get(table, 0):>8,} rows, {len(held.files.get(table, ())):>4,} files")
    if in_log:
        print_line(f"  {INFERENCE_LOG:<26}{in_log:>8,} rows")
    if held.nothing and not in_log:
        print_line("  no table holds it.")
    models = _trained_on(settings, spec, resources, eraser)
    if models:
        print_line(f"Trained on it: {', '.join(models)}. Train again and retire them; a model is not changed.")
    if held.sources:
        print_line(
            f"Came from: {', '.join(held.sources)}. These inputs are not touched; another delivery brings it again."
        )
    if not confirmed:
        _print_others(settings, lakehouse.root, log, entities)
        print_line("\nNothing was changed. To erase it, old versions that models are pinned to included: add --yes")
        return DONE
    try:
        left = eraser.erase()
    except StaleBaseError:
        raise StorageError(
            "someone else is writing the tables", where=lakehouse.location(RAW), fix="run it again; it goes on there"
        ) from None
    files = [path for found in left.files.values() for path in found]
    files += erase_from_log(log.folder, log.hashes) if log.hashes else []
    _print_others(settings, lakehouse.root, log, entities)
    if left.rows or files:
        named = ", ".join(map(str, files[:_NAMED])) or ", ".join(left.rows)
        print_line(f"\nNot erased: still in {named}. Run it again; it goes on there.")
        return FAILED
    print_line("\nErased: no file of the tables or of the log holds it any more; every one was searched.")
    if not held.nothing:
        print_line("Their older versions can't be read any more. Materialize the three sets again before training.")
    return DONE


def _log_of(settings: Settings, spec: FraudModelSpec, entities: Sequence[str]) -> _Log:
    serving, home = settings.serving(), settings.home / "serving"
    given = serving.entity_salt.get_secret_value()
    hashes: list[str] = []
    if given or (home / _SALT).is_file():
        known = EntityHash(secret_of(home, given), serving.entity_salt_days)
        hashes = [value for entity in entities for value in known.hashes_over(entity, 0.0, time.time())]
    address = serving.log or spec.inference_log or ""
    in_folder = address.startswith("delta:") and "://" not in address
    beside = settings.lakehouse_root / spec.database / INFERENCE_LOG
    table = Path(address.removeprefix("delta:")) if in_folder else beside
    prefix = f"{settings.branch}_" if settings.branch else ""
    segments = home / f"{prefix}{spec.registered_model}" / "log"
    return _Log(table, segments, hashes, "" if in_folder else address)


def _trained_on(settings: Settings, spec: FraudModelSpec, resources: dict[str, Any], eraser: Eraser) -> list[str]:
    """Return the registered versions and searches that were trained on rows of the entities, or may have been."""
    if not has_registry(settings):
        return []
    tracking = resources["tracking"]
    pins = pins_of_models(
        tracking.connect(spec.experiment),
        tracking.model(spec.registered_model),
        eraser.store.lakehouse.database,
        raw=RAW,
        test=SET_TABLES["test"],
    )
    of_raw = [pin for pin in pins if pin.table == RAW]
    held, gone = eraser.versions_used({pin.version for pin in of_raw})
    doubtful = {f"{pin.holder} (its data is gone)" for pin in of_raw if pin.version in gone}
    return sorted({pin.holder for pin in of_raw if pin.version in held} | doubtful)


def _print_others(settings: Settings, root: str, log: _Log, entities: Sequence[str]) -> None:
    """Name what is erased elsewhere, and files beside the tables that hold an entity as text."""
    if log.elsewhere and log.hashes:
        print_line(
            f"The log of predictions is in {log.elsewhere}: erase there entity {', '.join(log.hashes[:_NAMED])}."
        )
    if log.hashes and (waiting := rows_waiting(log.segments, log.hashes)):
        print_line(
            f"{waiting:,} rows are in segments of the server: stop it, so that they go to the log, and erase again."
        )
    searched = [value for value in entities if len(value) >= _SEARCHABLE]
    if len(searched) < len(entities):
        print_line(f"Files beside the tables were not searched for values shorter than {_SEARCHABLE} characters.")
    others = [str(path) for path in _others(settings.home, Path(root)) if _holds(path, searched)] if searched else []
    if others:
        more = f" and {len(others) - _NAMED} more" if len(others) > _NAMED else ""
        print_line(f"Beside the tables it is still in {', '.join(others[:_NAMED])}{more}.")
        print_line("  Previews of rows are in Dagster's runs: `dagster run delete` removes them.")


def _others(home: Path, tables: Path) -> Iterator[Path]:
    for path in sorted(home.rglob("*")):
        inside = path.relative_to(home)
        if inside.parts[0] not in _SKIPPED and not path.is_relative_to(tables) and path.is_file():
            yield path


def _holds(path: Path, values: Sequence[str]) -> bool:
    try:
        content = path.read_bytes()
    except OSError:  # a file that another process has just removed
        return False
    return any(value.encode() in content for value in values)
