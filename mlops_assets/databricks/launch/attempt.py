"""One attempt of a step, and its names on Databricks.

What belongs here: those names, and finding the Dagster run from them. What does not: calls.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import dagster as dg

_MARK = re.compile(r"\[dagster (?P<run>[\w-]+) (?P<step>\S+) (?P<attempt>\d+)\]$")
# Tags are also set on the machines. Of the clouds' rules, those for Google Cloud's labels are the narrowest: lower-case
# letters, digits, underscores and hyphens, 63 characters ("Requirements for labels").
_TAG_TEXT = re.compile(r"[^a-z0-9_-]")
_TAG_LENGTH = 63
_NAME_LENGTH = 4_000


@dataclass(frozen=True)
class Attempt:
    """One attempt of a Dagster step, which has at most one run on Databricks.

    Attributes:
        dagster_run: Dagster's run id.
        job: Name of the Dagster job.
        step: Step key.
        number: 0 for the first attempt.
        assets: Names of the assets that the step makes.
    """

    dagster_run: str
    job: str
    step: str
    number: int
    assets: tuple[str, ...] = ()

    @classmethod
    def of(cls, step: dg.StepExecutionContext) -> Attempt:
        """Return the attempt of a step's context."""
        run = step.dagster_run
        assets = sorted(key.to_user_string() for key in step.get_output_asset_keys())
        return cls(run.run_id, run.job_name, step.step.key, step.previous_attempt_count, tuple(assets))

    @property
    def run_name(self) -> str:
        """Name of the run, from which `dagster_run_of` finds the Dagster run."""
        return (
            f"{self.job} {self.step}"[: _NAME_LENGTH // 2] + f" [dagster {self.dagster_run} {self.step} {self.number}]"
        )

    @property
    def token(self) -> str:
        """Idempotency token: 64 characters, the same for the same attempt."""
        return hashlib.sha256(f"{self.dagster_run}/{self.step}/{self.number}".encode()).hexdigest()

    @property
    def folder(self) -> str:
        """Its folder in staging; step keys of dynamic steps have brackets, which do not belong in a file name."""
        plain = re.sub(r"[^\w.-]", "_", self.step)[:100]
        own = plain if plain == self.step else f"{plain}-{hashlib.sha256(self.step.encode()).hexdigest()[:8]}"
        return f"{self.dagster_run}/{own}-{self.number}"

    @property
    def tags(self) -> dict[str, str]:
        """Tags of the cluster, in the characters that every cloud allows; long values are cut."""
        named = {"dagster_run": self.dagster_run, "dagster_job": self.job, "dagster_step": self.step}
        named |= {"asset": "-".join(self.assets)} if self.assets else {}
        return {name: _TAG_TEXT.sub("_", value.lower())[:_TAG_LENGTH] for name, value in named.items()}

    @staticmethod
    def dagster_run_of(run_name: str) -> str | None:
        """Return the Dagster run that a run of this name belongs to, None if Dagster did not launch it."""
        match = _MARK.search(run_name)
        return match["run"] if match else None
