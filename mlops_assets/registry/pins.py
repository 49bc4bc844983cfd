"""The versions of tables that a model was trained on and is pinned to.

What belongs here: reading pins from MLflow's runs and registry. What does not: writing them (the `tuned_model` asset),
how long a pinned version must be kept (`lakehouse/retention`).

A run's tags name the versions of the raw table and of the test set; its data sets (`runs.ParentRun.log_inputs`) name
all three sets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.lakehouse.retention import Pin
from mlops_assets.lineage import DATABASE_TAG, RAW_VERSION_TAG, STAGE_TAG, TEST_VERSION_TAG
from mlops_assets.registry.retirement import retirement
from mlops_assets.registry.versions import registered
from mlops_assets.tracking.error_codes import is_missing
from mlops_assets.tracking.store import SEARCH

if TYPE_CHECKING:
    from mlflow.entities import Run
    from mlflow.entities.model_registry import ModelVersion

    from mlops_assets.tracking.store import Store


def pins_of_models(store: Store, model: str, database: str, *, raw: str, test: str) -> list[Pin]:
    """Return the table versions that a model's registered versions and its latest searches are pinned to.

    Every version in the registry counts, with or without an alias. The newest finished search counts too, because it
    may be registered next, and so do running searches. A retired model pins nothing.

    Args:
        store: Tracking store and registry.
        model: Name in the registry.
        database: Database of the tables; models of another database pin nothing here.
        raw: Name of the raw table.
        test: Name of the test set's table.

    Raises:
        TrackingError: The registry can't be reached, or a version does not name its tables.
    """
    with store.answering():
        if retirement(store, model) is not None:
            return []
        pins = [pin for version in registered(store, model) for pin in _of_version(store, version, database, raw, test)]
        for holder, run in _searches(store, database):
            pins += _of_run(run.data.tags, run, holder, raw, test)
    return pins


def _of_version(store: Store, version: ModelVersion, database: str, raw: str, test: str) -> list[Pin]:
    holder = f"{version.name} version {version.version}"
    try:
        run = store.client.get_run(version.run_id) if version.run_id else None
    except MlflowException as error:
        if not is_missing(error):
            raise
        run = None
    # If the run is gone, tags that a person put on the version replace its tags.
    tags = {**(run.data.tags if run is not None else {}), **version.tags}
    if tags.get(DATABASE_TAG, database) != database:
        return []
    return _of_run(tags, run, holder, raw, test)


def _searches(store: Store, database: str) -> Iterator[tuple[str, Run]]:
    newest = store.latest_search({DATABASE_TAG: database})
    if newest is not None:
        yield f"the newest search (MLflow run {newest})", store.client.get_run(newest)
    running = (
        f"attributes.status = 'RUNNING' and tags.`{STAGE_TAG}` = '{SEARCH}' and tags.`{DATABASE_TAG}` = '{database}'"
    )
    for run in store.client.search_runs([store.experiment_id], running):
        yield f"a running search (MLflow run {run.info.run_id})", run


def _of_run(tags: Mapping[str, str], run: Run | None, holder: str, raw: str, test: str) -> list[Pin]:
    versions = {raw: tags.get(RAW_VERSION_TAG, ""), test: tags.get(TEST_VERSION_TAG, "")}
    unusable = [table for table, version in versions.items() if not version.isdecimal()]
    if unusable:
        raise TrackingError(
            f"no tag names the version of {' and '.join(unusable)} that it was made from",
            where=holder if run is None else f"{holder}, MLflow run {run.info.run_id}",
            fix=f"delete the version if it is not needed, or tag it with {RAW_VERSION_TAG} and {TEST_VERSION_TAG}",
        )
    pins = [Pin(table, int(version), holder) for table, version in versions.items()]
    return [*pins, *(Pin(table, version, holder) for table, version in input_versions(run))]


def input_versions(run: Run | None) -> Iterator[tuple[str, int]]:
    """Yield name and version of each table that a run has on record as its data set."""
    for item in run.inputs.dataset_inputs if run is not None and run.inputs is not None else ():
        # MLflow writes the source and omits version 0 there; we write the digest.
        if digest := re.fullmatch(r"v(\d+)", item.dataset.digest):
            yield item.dataset.name, int(digest[1])
