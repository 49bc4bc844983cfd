"""`mlops upkeep` and `mlops replay`: jobs on the tables, each with a short summary at the end.

What belongs here: the summaries. What does not: running the jobs (`run_job`), what they do (`assets`, `lakehouse`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.upkeep import TABLE_UPKEEP
from mlops_assets.automation.jobs import REPLAY, UPKEEP
from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.run_job import print_line, report_failure, run_job
from mlops_assets.lineage import DELTA_VERSION, ROW_COUNT

if TYPE_CHECKING:
    from mlops_assets.settings import Settings


def run_upkeep(settings: Settings) -> int:
    """Compact the tables and delete old files; print one line per table, and return the exit code."""
    finished = run_job(settings, UPKEEP, f"upkeep of the tables of {settings.spec().database}")
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


def run_replay(settings: Settings) -> int:
    """Retry the rows in quarantine; print the result, and return the exit code."""
    finished = run_job(settings, REPLAY, f"replay of the quarantine of {settings.spec().database}")
    if not finished.result.success:
        return report_failure(finished)
    metadata = finished.metadata()
    raw, quarantined = metadata[RAW], metadata[QUARANTINED]
    print_line(f"\n{raw['rows_added']:,} rows left the quarantine, {quarantined[ROW_COUNT]:,} remain in it.")
    print_line(f"{RAW} has {raw[ROW_COUNT]:,} rows, version {raw[DELTA_VERSION]}.")
    return DONE
