"""Checks of sources: places of files must be listable from where Dagster runs, tables of a catalog have a feed.

What belongs here: these checks. What does not: the listing (`data.sources.listing`), reading a table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING

from mlops_assets.data.sources.arrivals import CHANGE_DATA_FEED, Arrivals, arrivals_of_files
from mlops_assets.data.sources.listing import landed_files
from mlops_assets.data.sources.locations import shown
from mlops_assets.databricks.preflight import Finding
from mlops_assets.errors import PlatformError
from mlops_assets.spec import CARDS, FraudModelSpec

if TYPE_CHECKING:
    from databricks.sdk import WorkspaceClient

    from mlops_assets.data.sources.storage import Opener


def check_sources(models: Iterable[FraudModelSpec], opened: Opener) -> Iterator[Finding]:
    """List each place where a model's files arrive.

    Args:
        models: The models of the code location.
        opened: Opens the file system of a place, as the sensors do.
    """
    for spec in models:
        title = f" of {spec.name}" if spec.name else ""
        places = {f"source{title}": spec.source_place} if spec.source_kind == "files" else {}
        if spec.labels not in (None, CARDS):
            places[f"labels{title}"] = str(spec.labels)
        for subject, place in places.items():
            if arrivals_of_files(place) is Arrivals.FILES:
                yield _listed(subject, place, opened)


def _listed(subject: str, place: str, opened: Opener) -> Finding:
    try:
        files = landed_files(place, opened)
    except PlatformError as error:
        return Finding("error", subject, f"{error.where}: {error.what}; {error.fix}")
    return Finding("ok", subject, f"{shown(place)} can be listed, {len(files)} files")


def check_tables(models: Iterable[FraudModelSpec], workspace: Callable[[], WorkspaceClient]) -> Iterator[Finding]:
    """Ask the catalog for the entry of each table that is a model's source.

    The identity that asks is the launching one, which clusters run as.

    Args:
        models: The models of the code location.
        workspace: Returns the client; called only if there is such a table.
    """
    for spec in models:
        if spec.source_kind == "table":
            yield _entry(f"source of {spec.name}" if spec.name else "source", spec.source_place, workspace)


def _entry(subject: str, name: str, workspace: Callable[[], WorkspaceClient]) -> Finding:
    from mlops_assets.diagnostics.findings import WORKSPACE_ERRORS, in_one_line, ok, wrong

    try:
        properties = workspace().tables.get(name).properties or {}
    except PlatformError as error:
        return wrong(subject, f"{error.what}; {error.fix}")
    except WORKSPACE_ERRORS as error:
        fix = "correct the name, or grant USE CATALOG, USE SCHEMA and SELECT on it"
        return wrong(subject, f"{name}: {in_one_line(error)}; {fix}")
    if properties.get(CHANGE_DATA_FEED) != "true":
        fix = f"its owner runs ALTER TABLE {name} SET TBLPROPERTIES ({CHANGE_DATA_FEED} = true)"
        return wrong(subject, f"{name} has no change data feed; {fix}")
    return ok(subject, f"{name} is there, with a change data feed")
