"""The check-up: all checks, in the order in which their findings should be fixed.

What belongs here: which checks are made of which installation. What does not: the checks themselves, printing what they
found (`cli`, `automation`), fixing it.

What looks at a workspace imports databricks-sdk, which takes a second and comes with an extra: only with a profile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.diagnostics.machine import check_machine, check_settings
from mlops_assets.errors import PlatformError

if TYPE_CHECKING:
    from mlops_assets.databricks.preflight import Finding
    from mlops_assets.databricks.profile import DatabricksProfile
    from mlops_assets.settings import Settings


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
        home: Folder that runs write to.
        java_home: JAVA_HOME as the process has it.
        settings_problem: Why the settings or the profile could not be read, if they could not.
        profile: The Databricks environment; None checks this machine alone.
        credentials: Of the workspace, by the names of databricks-sdk (`token`, or `client_id` and `client_secret`);
            None or empty looks where that looks by itself (`~/.databrickscfg`, the clouds' own tools).
    """
    here = [*check_machine(home, java_home, launches=profile is not None), check_settings(settings_problem)]
    if profile is None:
        return here
    try:
        from mlops_assets.diagnostics.clusters import check_versions
        from mlops_assets.diagnostics.workspace import check_workspace
    except ModuleNotFoundError:  # the extra is not installed, as the finding on packages says
        return here
    return [*here, *check_versions(profile), *check_workspace(profile, dict(credentials or {}))]


def examine(settings: Settings, load: Callable[[Settings], object]) -> list[Finding]:
    """Diagnose an installation by its settings, which are valid one by one.

    Args:
        settings: Those of the installation.
        load: Makes the code location of settings (`definitions.build_defs`); what it refuses is a finding.
    """
    problem: PlatformError | None = None
    profile: DatabricksProfile | None = None
    try:
        load(settings)
        profile = settings.profile() if settings.target == "databricks" else None
    except PlatformError as error:
        problem = error
    return diagnose(
        home=settings.home,
        java_home=settings.java_home,
        settings_problem=problem,
        profile=profile,
        credentials=settings.databricks_login(),
    )
