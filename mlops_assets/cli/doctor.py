"""`mlops doctor`: the findings of the check-up, one line each.

What belongs here: printing them. What does not: the checks themselves (`diagnostics`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.cli.exit_codes import DONE, FAILED
from mlops_assets.cli.location import OWN, Location
from mlops_assets.cli.run_job import print_line
from mlops_assets.diagnostics.checkup import diagnose, examine
from mlops_assets.diagnostics.verification import verify
from mlops_assets.errors import PlatformError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.settings import Settings

if TYPE_CHECKING:
    from mlops_assets.databricks.preflight import Finding


def run_doctor(settings: Settings | PlatformError, location: Location | None = None, asked: Sequence[str] = ()) -> int:
    """Check the installation, print the findings, and return the exit code.

    Args:
        settings: The settings from the environment, or the error that they raised.
        location: The code location; by default the platform's own.
        asked: What else to find out with a cluster: `first_run`, `cost`. It is left out if something must be fixed
            before.
    """
    if isinstance(settings, PlatformError):
        findings = diagnose(home=Path(".mlops"), java_home=None, settings_problem=settings)
    else:
        findings = examine(settings, lambda: _load(settings, location or Location()))
        findings += _left_by_runs(settings, location or Location())
    text, code = report(findings)
    print_line(text)
    if isinstance(settings, PlatformError) or code != DONE:
        return code
    for name in asked:
        text, found = report(_asked(settings, name))
        print_line(text)
        code = max(code, found)
    return code


def report(findings: Iterable[Finding]) -> tuple[str, int]:
    """Return the lines to print, and the exit code: 1 if any finding is an error, otherwise 0 (even with warnings)."""
    listed = list(findings)
    wrong = any(finding.level == "error" for finding in listed)
    return "\n".join(map(str, listed)), FAILED if wrong else DONE


def _asked(settings: Settings, name: str) -> Iterable[Finding]:
    from mlops_assets.databricks.preflight import Finding

    if settings.target != "databricks":
        text = "it asks a workspace; set MLOPS_TARGET=databricks and MLOPS_DATABRICKS_HOST"
        return [Finding("error", name.replace("_", " "), text)]
    from mlops_assets.diagnostics.cost import cost
    from mlops_assets.diagnostics.first_run import first_run

    ask = {"first_run": first_run, "cost": cost}[name]
    return ask(settings.profile(), settings.databricks_login() or {})


def _left_by_runs(settings: Settings, location: Location) -> list[Finding]:
    """Return the findings on tables and stores; what can't be loaded is one of the findings above."""
    try:
        return verify(settings, build_resources(settings), location.models(settings), contents=False)
    except PlatformError:
        return []


def _load(settings: Settings, location: Location) -> object:
    if location.module != OWN:
        return location.load()
    # Importing the module builds definitions from the environment's settings. The import is here, not above, so that
    # an error in it becomes a finding.
    from mlops_assets.definitions import build_defs

    return build_defs(settings)
