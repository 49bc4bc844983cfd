"""One attempt of a step, and the names by which Databricks knows it.

What belongs here: those names and the way back from them. What does not: calls.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

_MARK = re.compile(r"\[dagster (?P<run>[\w-]+) (?P<step>\S+) (?P<attempt>\d+)\]$")
_TAG_TEXT = re.compile(r"[^\w .:/=+@-]")
_TAG_LENGTH = 255
_NAME_LENGTH = 4_000


@dataclass(frozen=True)
class Attempt:
    """One attempt of a Dagster step; each has one run on Databricks at most.

    Attributes:
        dagster_run: Dagster's run id.
        job: Name of the Dagster job.
        step: Step key.
        number: 0 for the first attempt.
    """

    dagster_run: str
    job: str
    step: str
    number: int

    @property
    def run_name(self) -> str:
        """Name of the run, from which `of_run_name` knows the attempt again."""
        return (
            f"{self.job} {self.step}"[: _NAME_LENGTH // 2] + f" [dagster {self.dagster_run} {self.step} {self.number}]"
        )

    @property
    def token(self) -> str:
        """Idempotency token: 64 characters, the same for the same attempt."""
        return hashlib.sha256(f"{self.dagster_run}/{self.step}/{self.number}".encode()).hexdigest()

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the cluster."""
        named = {"dagster_run": self.dagster_run, "dagster_job": self.job, "dagster_step": self.step}
        return {name: _TAG_TEXT.sub("_", value)[:_TAG_LENGTH] for name, value in named.items()}

    @staticmethod
    def dagster_run_of(run_name: str) -> str | None:
        """Return the Dagster run that a run of this name belongs to, None for one that was not launched here."""
        found = _MARK.search(run_name)
        return found["run"] if found else None
