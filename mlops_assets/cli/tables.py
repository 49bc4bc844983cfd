"""`mlops upkeep`, `replay`, `revert` and `repair`: jobs on the tables, each with a short summary at the end.

What belongs here: the summaries, and the list of batches. What does not: running the jobs (`run_job`), what they do
(`assets`, `lakehouse`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.upkeep import TABLE_UPKEEP
from mlops_assets.automation.jobs import REPAIR, REPLAY, REVERT, UPKEEP
from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.run_job import print_line, report_failure, run_job
from mlops_assets.errors import StorageError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lakehouse.batches import batches
from mlops_assets.lakehouse.transaction_tables import MANIFEST
from mlops_assets.lineage import BATCHES_DROPPED, BATCHES_GONE, DELTA_VERSION, ROW_COUNT, TRAINED_ON_REVERTED

if TYPE_CHECKING:
    from mlops_assets.cli.location import Chosen
    from mlops_assets.settings import Settings

_ID_SHOWN: Final = 12


def run_upkeep(settings: Settings, chosen: Chosen) -> int:
    """Compact the tables and delete old files; print one line per table, and return the exit code."""
    finished = run_job(settings, chosen, UPKEEP, f"upkeep of the tables of {chosen.spec.database}")
    if not finished.result.success:
        return report_failure(finished)
    reports = finished.metadata()[TABLE_UPKEEP]["reports"]
    width = max(map(len, reports), default=0)
    print_line("" if reports else "\nThere are no tables yet.")
    for table, report in reports.items():
        print_line(
            f"{table:<{width}}  files {report['files_before']:,} -> {report['files_after']:,}, "
            f"{report['files_deleted']:,} old files deleted ({report['bytes_deleted']:,} bytes)"
        )
    return DONE


def run_replay(settings: Settings, chosen: Chosen) -> int:
    """Retry the rows in quarantine; print the result, and return the exit code."""
    finished = run_job(settings, chosen, REPLAY, f"replay of the quarantine of {chosen.spec.database}")
    if not finished.result.success:
        return report_failure(finished)
    metadata = finished.metadata()
    raw, quarantined = metadata[RAW], metadata[QUARANTINED]
    print_line(f"\n{raw['rows_added']:,} rows left the quarantine, {quarantined[ROW_COUNT]:,} remain in it.")
    print_line(f"{RAW} has {raw[ROW_COUNT]:,} rows, version {raw[DELTA_VERSION]}.")
    return DONE


def list_batches(settings: Settings, chosen: Chosen) -> int:
    """Print the batches that can be reverted, the newest first, and return the exit code.

    Raises:
        StorageError: The tables can't be reached from this machine.
    """
    lakehouse = build_resources(settings)["lakehouse"].open(chosen.spec)
    if lakehouse.catalog and not lakehouse.catalog_here:
        raise StorageError(
            "this machine can't reach the catalog",
            where=lakehouse.location(MANIFEST),
            fix="look at this table in the workspace: its records of kind `load`, and the ids in `transaction_labels`",
        )
    found = batches(lakehouse)
    if not found:
        print_line("No batch is loaded.")
        return DONE
    print_line(f"{'batch':<{_ID_SHOWN}}  {'loaded (UTC)':<16}  {'rows':>10}  input")
    for batch in found:
        kind = " (labels)" if batch.of_labels else ""
        loaded = batch.recorded_at[:16].replace("T", " ")
        print_line(f"{batch.batch_id[:_ID_SHOWN]}  {loaded}  {batch.rows:>10,}  {batch.source}{kind}")
    print_line("\nTo take one out again: mlops revert --batch ID")
    return DONE


def run_revert(settings: Settings, chosen: Chosen, wanted: Sequence[str]) -> int:
    """Take batches out again; print the result and the models that were trained on them, and return the exit code."""
    title = f"revert of {len(wanted)} batches in {chosen.spec.database}"
    finished = run_job(settings, chosen, REVERT, title, ops={RAW: {"revert": list(wanted)}})
    if not finished.result.success:
        return report_failure(finished)
    raw = finished.metadata()[RAW]
    print_line(f"\n{raw['rows_removed']:,} rows are gone, {raw['rows_restored']:,} are as they were before.")
    print_line(f"{RAW} has {raw[ROW_COUNT]:,} rows, version {raw[DELTA_VERSION]}.")
    trained = raw[TRAINED_ON_REVERTED]
    print_line("No model was trained on them." if not trained else f"Trained on them: {', '.join(trained)}.")
    return DONE


def run_repair(settings: Settings, chosen: Chosen, *, drop: bool) -> int:
    """Load lost batches again, or go on without them; print what became of them, and return the exit code."""
    ops = {RAW: {"repair": True, "labels_only": drop}}
    finished = run_job(settings, chosen, REPAIR, f"repair of {chosen.spec.database}", ops=ops)
    if not finished.result.success:
        return report_failure(finished)
    raw = finished.metadata()[RAW]
    lost, gone = raw.get(BATCHES_DROPPED, []), raw.get(BATCHES_GONE, [])
    if not lost:
        print_line(f"\n{RAW} has every batch that is on record.")
    elif gone:
        print_line(f"\n{len(lost)} batches were lost; not in the tables again: {', '.join(gone)}")
    else:
        print_line(f"\n{len(lost)} lost batches are in the tables again.")
    print_line(f"{RAW} has {raw[ROW_COUNT]:,} rows, version {raw[DELTA_VERSION]}.")
    return DONE
