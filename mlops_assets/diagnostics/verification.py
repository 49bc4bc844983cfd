"""All that `mlops verify` looks at: the embedded stores of an installation, each model's tables and versions.

What belongs here: which looks apply to which installation. What does not: the looks (`consistency`, `model_files`,
`mlflow_file`), printing findings (`cli`, `automation`), what a run needs (`checkup`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from mlops_assets.databricks.preflight import Finding
from mlops_assets.diagnostics.consistency import verify_tables
from mlops_assets.diagnostics.mlflow_file import SQLITE, check_store, is_there, knows
from mlops_assets.diagnostics.model_files import verify_models
from mlops_assets.errors import PlatformError
from mlops_assets.lakehouse.split_sets import SET_TABLES
from mlops_assets.lakehouse.transaction_tables import RAW

if TYPE_CHECKING:
    from mlops_assets.deployment import Deployment
    from mlops_assets.lakehouse.retention import Pin
    from mlops_assets.spec import FraudModelSpec


def verify(
    deployment: Deployment,
    resources: Mapping[str, Any],
    models: Sequence[FraudModelSpec],
    *,
    contents: bool = True,
) -> list[Finding]:
    """Return what is right and what is wrong with all that runs have left; nothing is changed.

    Args:
        deployment: Where everything is.
        resources: Those of the code location: `lakehouse` and `tracking`.
        models: Its models.
        contents: Whether to read every data file from beginning to end, which takes as long as reading the tables.
    """
    findings = check_store(deployment.mlflow_uri, deployment.mlflow_artifacts) if _embedded(deployment) else []
    usable = not any(finding.level == "error" for finding in findings)
    for spec in models:
        lakehouse = resources["lakehouse"].open(spec)
        asked = usable and _may_ask(deployment, spec)
        findings += verify_tables(
            spec.title, lakehouse, partial(_pins, resources, spec) if asked else None, contents=contents
        )
        if asked:
            findings += _models(resources, spec, every=contents)
    return findings


def _models(resources: Mapping[str, Any], spec: FraudModelSpec, *, every: bool) -> list[Finding]:
    from mlops_assets.registry.alias_moves import ChampionLedger

    tracking, lakehouse = resources["tracking"], resources["lakehouse"].open(spec)
    try:
        store, name = tracking.connect(spec.experiment), tracking.model(spec.registered_model)
    except PlatformError as error:
        return [Finding("error", f"models of {spec.title}", str(error))]
    return verify_models(spec.title, ChampionLedger.of(store, name, lakehouse), every=every)


def _embedded(deployment: Deployment) -> bool:
    return deployment.target == "local" and deployment.mlflow_uri.startswith(SQLITE)


def _may_ask(deployment: Deployment, spec: FraudModelSpec) -> bool:
    """Return whether to ask the registry would create nothing: an experiment that is not there would be made."""
    if not _embedded(deployment):
        return deployment.target == "local"
    return is_there(deployment.mlflow_uri) and knows(deployment.mlflow_uri, spec.experiment)


def _pins(resources: Mapping[str, Any], spec: FraudModelSpec) -> Sequence[Pin]:
    from mlops_assets.registry.pins import pins_of_models

    tracking, lakehouse = resources["tracking"], resources["lakehouse"].open(spec)
    store, name = tracking.connect(spec.experiment), tracking.model(spec.registered_model)
    return pins_of_models(store, name, lakehouse.database, raw=RAW, test=SET_TABLES["test"])
