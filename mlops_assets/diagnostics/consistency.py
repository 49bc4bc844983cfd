"""`mlops verify`: do tables, manifest, sets, models and aliases fit together, and are their files whole?

What belongs here: what one part says about another, compared read-only. What does not: the files of one table
(`table_files`), what a run needs (`machine`, `workspace`), repairing anything, printing (`cli`, `automation`).

Tables are looked at where they lie in folders of this machine; those of a catalog are the workspace's. Nothing here
starts Spark, takes a lock or writes. A finding says what is wrong, in which version of which table, and what helps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pyarrow as pa

from mlops_assets.data.columns import BATCH_ID
from mlops_assets.data.ingest.manifest import LOAD, loaded
from mlops_assets.databricks.preflight import Finding
from mlops_assets.diagnostics.table_files import Damage, check_files, check_log
from mlops_assets.errors import PlatformError
from mlops_assets.lakehouse.completeness import missing_batches
from mlops_assets.lakehouse.score_table import SCORES
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import KNOWN, LABELS, MANIFEST, QUARANTINED, RAW, REPLACED
from mlops_assets.lineage import RAW_DATA_VERSION, RAW_VERSION, RECORDS, SPLIT_ID, UNSETTLED
from mlops_assets.registry.ledger import CHAMPION_LEDGER

if TYPE_CHECKING:
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.retention import Pin

TABLES: Final = (RAW, QUARANTINED, MANIFEST, LABELS, REPLACED, KNOWN, *SET_TABLES.values(), SCORES, CHAMPION_LEDGER)
_NAMED: Final = 3
_RESTORE: Final = "restore the table's folder from a backup"
_HELP: Final[Mapping[str, str]] = {
    RAW: f"{_RESTORE}, or remove it and run `mlops repair`, which loads its batches again from the source",
    **dict.fromkeys(SET_TABLES.values(), "remove the table's folder and materialize the three sets again"),
    LABELS: f"{_RESTORE}, or remove it and materialize `{LABELS}` again from all label files",
}


def verify_tables(
    title: str, lakehouse: Lakehouse, pins: Callable[[], Sequence[Pin]] | None, *, contents: bool = True
) -> list[Finding]:
    """Return the findings on the tables and models of one model; none before the first load, or in a catalog.

    Args:
        title: The model, as findings name it.
        lakehouse: Its database.
        pins: Returns the versions that models need; None if there is no registry yet.
        contents: Whether to read every data file, instead of sizes and footers.
    """
    if lakehouse.catalog:  # their files are the workspace's
        return []
    there = [name for name in TABLES if (Path(lakehouse.location(name)) / "_delta_log").is_dir()]
    needed, findings = _pinned(title, pins)
    damaged: list[str] = []
    for name in there:
        found = _damages(lakehouse, name, needed.get(name, []), contents=contents)
        if found:
            damaged.append(name)
            findings.append(
                Finding("error", f"{name} of {title}", f"{_listed(found)}. Fix: {_HELP.get(name, _RESTORE)}")
            )
    if damaged:  # what they say can't be compared
        return findings
    findings += _compared(title, lakehouse, needed)
    if there and not any(finding.level == "error" for finding in findings):
        findings.append(Finding("ok", f"tables of {title}", f"{len(there)} tables are whole and fit together"))
    return findings


def _pinned(title: str, pins: Callable[[], Sequence[Pin]] | None) -> tuple[dict[str, list[int]], list[Finding]]:
    needed: dict[str, list[int]] = {}
    if pins is None:
        return needed, []
    try:
        for pin in pins():
            needed.setdefault(pin.table, []).append(pin.version)
    except PlatformError as error:
        return {}, [Finding("error", f"models of {title}", str(error))]
    return needed, []


def _damages(lakehouse: Lakehouse, name: str, pinned: Iterable[int], *, contents: bool) -> list[Damage]:
    from deltalake.exceptions import DeltaError

    folder = Path(lakehouse.location(name))
    found = check_log(folder)
    if found:
        return found
    try:
        newest = lakehouse.current(name)
        if newest is None:
            return [Damage(0, folder, "has a log without a table")]
        oldest = lakehouse.erased_below(name)
        versions = [newest.version, *(version for version in pinned if oldest <= version <= newest.version)]
        return check_files(folder, versions, contents=contents)
    except (DeltaError, PlatformError, pa.ArrowException, OSError, ValueError) as error:
        return [Damage(-1, folder, f"has a log that can't be read ({str(error).splitlines()[0][:160]})")]


def _compared(title: str, lakehouse: Lakehouse, needed: Mapping[str, Sequence[int]]) -> list[Finding]:
    current = {name: lakehouse.current(name) for name in TABLES}
    findings = []
    for name, versions in needed.items():
        newest = current.get(name)
        newer = sorted({v for v in versions if newest is None or v > newest.version})
        if name in current and newer:
            text = f"models are pinned to {_versions(newer)}, which the table does not have. Fix: {_RESTORE}"
            findings.append(Finding("error", f"{name} of {title}", text))
    raw, manifest = current[RAW], current[MANIFEST]
    if lost := missing_batches(lakehouse, raw, manifest):
        what = f"{len(lost)} batches on record are not in the table: {_some(lost.values())}"
        findings.append(Finding("error", f"{RAW} of {title}", f"{what}. Fix: {_RESTORE}, or run `mlops repair`"))
    elif raw is not None and manifest is not None:
        findings += _off_record(title, lakehouse, raw, manifest, current[QUARANTINED])
    return [*findings, *_sets(title, lakehouse, raw, current)]


def _off_record(
    title: str, lakehouse: Lakehouse, raw: TableVersion, manifest: TableVersion, quarantined: TableVersion | None
) -> list[Finding]:
    """Return rows whose batch is not on record, and batches with more rows than they brought."""
    rows = lakehouse.fetch(manifest, ["batch_id", "kind", "rows", "quarantined"]).to_pylist()
    accounted = int(manifest.metadata.get(RAW_VERSION, -1))
    pending = [
        record
        for metadata in (lakehouse.commit_metadata_since(RAW, accounted) if raw.version > accounted else [])
        for record in metadata.get(RECORDS, [])
    ]
    records = [*rows, *pending]
    there = set(loaded((record["batch_id"], record["kind"]) for record in records))
    brought: dict[str, int] = {record["batch_id"]: record["rows"] for record in records if record["kind"] == LOAD}
    findings = []
    held = {batch: count for (batch,), count in lakehouse.counted(raw, [BATCH_ID]).items()}
    strange = [batch for batch in held if batch not in there]
    if strange:
        text = f"{sum(held[b] for b in strange):,} rows are of batches that are not on record, or were reverted"
        findings.append(Finding("error", f"{RAW} of {title}", f"{text}: {_some(strange)}. Fix: {_RESTORE}"))
    doubled = [batch for batch, count in held.items() if count > brought.get(batch, count)]
    if doubled:
        text = f"batches have more rows than they brought: {_some(doubled)}"
        findings.append(Finding("error", f"{RAW} of {title}", f"{text}. Fix: {_RESTORE}"))
    if quarantined is None:
        aside_once = [record["batch_id"] for record in records if record["kind"] == LOAD and record["quarantined"]]
        if aside_once:
            text = f"the table is gone: rows of {len(aside_once)} batches were set aside. Fix: {_RESTORE}"
            findings.append(Finding("error", f"{QUARANTINED} of {title}", text))
    else:
        aside = {batch for (batch,) in lakehouse.counted(quarantined, [BATCH_ID])}
        unknown = aside - there - set(quarantined.metadata.get(UNSETTLED, []))
        if unknown:
            text = f"holds rows of batches that are not on record: {_some(unknown)}. Fix: {_RESTORE}"
            findings.append(Finding("error", f"{QUARANTINED} of {title}", text))
    return findings


def _sets(
    title: str, lakehouse: Lakehouse, raw: TableVersion | None, current: Mapping[str, TableVersion | None]
) -> list[Finding]:
    sets = {name: current[name] for name in SET_TABLES.values()}
    made = {name: table for name, table in sets.items() if table is not None}
    if not made:
        return []
    subject = f"sets of {title}"
    if len(made) < len(sets) or len({str(table.metadata.get(SPLIT_ID)) for table in made.values()}) > 1:
        lacking = [name for name in sets if name not in made]
        what = f"{', '.join(lacking)} is missing" if lacking else "the sets come from different splits"
        return [Finding("error", subject, f"{what}. Fix: materialize train_set, validation_set and test_set together")]
    said = next(iter(made.values())).metadata
    version = int(said.get(RAW_VERSION, -1))
    if raw is None or version > raw.version:
        newest = "is gone" if raw is None else f"has only version {raw.version}"
        text = f"were cut from version {version} of {RAW}, which {newest}. Fix: {_RESTORE}, or split again"
        return [Finding("error", subject, text)]
    identity = lakehouse.data_version(raw).partition("-")[2]
    if RAW_DATA_VERSION in said and str(said[RAW_DATA_VERSION]).partition("-")[2] != identity:
        return [Finding("error", subject, f"were cut from another table than {RAW} is today. Fix: split again")]
    return []


def _listed(found: Sequence[Damage]) -> str:
    more = f" and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
    return "; ".join(map(str, found[:_NAMED])) + more


def _some(names: Iterable[str]) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - _NAMED} more" if len(listed) > _NAMED else ""
    return ", ".join(name[:40] for name in listed[:_NAMED]) + more


def _versions(numbers: Sequence[int]) -> str:
    return f"version{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers[:_NAMED]))}"
