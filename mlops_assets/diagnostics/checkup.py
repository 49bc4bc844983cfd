"""All checks of an installation, in the order in which their findings should be fixed.

What belongs here: which checks apply to which installation. What does not: the checks, printing their findings (`cli`,
`automation`), fixing problems.

The checks of a workspace import databricks-sdk, which takes a second and is an extra, so they are imported only with a
profile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, cast

from mlops_assets.diagnostics.machine import check_machine, check_settings
from mlops_assets.diagnostics.sources import check_sources, check_tables
from mlops_assets.errors import PlatformError
from mlops_assets.resources.landing import connected, opener_of
from mlops_assets.spec import FraudModelSpec, models_in

if TYPE_CHECKING:
    import dagster as dg

    from mlops_assets.databricks.preflight import Finding
    from mlops_assets.databricks.profile import DatabricksProfile
    from mlops_assets.deployment import Deployment


def diagnose(
    *,
    home: Path,
    java_home: str | None,
    settings_problem: PlatformError | None = None,
    profile: DatabricksProfile | None = None,
    credentials: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return the findings, in the order in which they should be fixed.

    Args:
        home: Folder for the output of runs.
        java_home: JAVA_HOME of the process.
        settings_problem: Error from reading the settings or the profile, if any.
        profile: The Databricks environment; None checks only this machine.
        credentials: Credentials of the workspace, by the names of databricks-sdk (`token`, or `client_id` and
            `client_secret`); if None or empty, the SDK looks for them (`~/.databrickscfg`, the clouds' own tools).
    """
    here = [*check_machine(home, java_home, launches=profile is not None), check_settings(settings_problem)]
    if profile is None:
        return here
    try:
        from mlops_assets.diagnostics.clusters import check_versions
        from mlops_assets.diagnostics.workspace import check_workspace
    except ModuleNotFoundError:  # the extra is not installed; the finding on packages reports it
        return here
    return [*here, *check_versions(profile), *check_workspace(profile, credentials or {})]


def examine(deployment: Deployment, load: Callable[[], object]) -> list[Finding]:
    """Diagnose an installation from its settings, which are individually valid.

    Args:
        deployment: The installation.
        load: Builds the code location (`definitions.build_defs`); an error becomes a finding.
    """
    problem: PlatformError | None = None
    profile: DatabricksProfile | None = None
    models: tuple[FraudModelSpec, ...] = ()
    loaded: object = None
    try:
        loaded = load()
        models = models_in(getattr(loaded, "metadata", None) or {})
        profile = deployment.profile() if deployment.target == "databricks" else None
    except PlatformError as error:
        problem = error
    found = diagnose(
        home=deployment.home,
        java_home=deployment.java_home,
        settings_problem=problem,
        profile=profile,
        credentials=deployment.databricks_login(),
    )
    tables = check_tables(models, lambda: connected(deployment)) if profile is not None else ()
    return [*found, *_starts(profile, loaded, models), *check_sources(models, opener_of(deployment)), *tables]


def _starts(profile: DatabricksProfile | None, loaded: object, models: tuple[FraudModelSpec, ...]) -> list[Finding]:
    if profile is None or not models:
        return []
    from mlops_assets.diagnostics.cluster_starts import check_starts

    return list(check_starts(profile, cast("dg.Definitions", loaded), models))
