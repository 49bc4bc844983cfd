"""`mlops verify`: what runs have left, compared and read, one line each.

What belongs here: printing the findings. What does not: the looks (`diagnostics/verification`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from mlops_assets.cli.doctor import report
from mlops_assets.cli.run_job import print_line
from mlops_assets.diagnostics.verification import verify
from mlops_assets.fraud_model.shared import build_resources

if TYPE_CHECKING:
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec


def run_verify(settings: Settings, models: Sequence[FraudModelSpec]) -> int:
    """Look at stores, tables and models, print the findings, and return the exit code."""
    text, code = report(verify(settings, build_resources(settings), models))
    print_line(text or "Nothing was written yet.")
    return code
