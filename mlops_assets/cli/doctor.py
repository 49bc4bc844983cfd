"""`mlops doctor`: the findings of the check-up, one line each.

What belongs here: printing them. What does not: the checks themselves (`diagnostics`).
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.cli.exit_codes import DONE, FAILED
from mlops_assets.cli.run_job import print_line
from mlops_assets.diagnostics.checkup import diagnose, examine
from mlops_assets.errors import PlatformError
from mlops_assets.settings import Settings

if TYPE_CHECKING:
    from mlops_assets.databricks.preflight import Finding


def run_doctor(settings: Settings | PlatformError) -> int:
    """Check the installation, print the findings, and return the exit code.

    Args:
        settings: The settings from the environment, or the error that they raised.
    """
    if isinstance(settings, PlatformError):
        findings = diagnose(home=Path(".mlops"), java_home=None, settings_problem=settings)
    else:
        findings = examine(settings, lambda: _load(settings))
    text, code = report(findings)
    print_line(text)
    return code


def report(findings: Iterable[Finding]) -> tuple[str, int]:
    """Return the lines to print, and the exit code: 1 if any finding is an error, otherwise 0 (even with warnings)."""
    listed = list(findings)
    wrong = any(finding.level == "error" for finding in listed)
    return "\n".join(map(str, listed)), FAILED if wrong else DONE


def _load(settings: Settings) -> object:
    # Importing the module builds definitions from the environment's settings. The import is here, not above, so that
    # an error in it becomes a finding.
    from mlops_assets.definitions import build_defs

    return build_defs(settings)
