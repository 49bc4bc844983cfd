"""What all steps of a Dagster run share in staging: the code and the main script, uploaded once and removed at its end.

What belongs here: uploading and removing them, and what the script has to know about them. What does not: the files of
one step (its launcher writes them), the storage itself (`staging`), packing (`code`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from mlops_assets.databricks.launch.code import pack
from mlops_assets.databricks.launch.project import project_of
from mlops_assets.databricks.launch.run_steps import executes_whole_run
from mlops_assets.databricks.launch.staging import Staging, staging_of

if TYPE_CHECKING:
    import dagster as dg

    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.spec import LaunchSpec


@dataclass(frozen=True)
class Uploaded:
    """What was uploaded for a Dagster run.

    Attributes:
        code: Path of the zip on the cluster.
        code_sha256: Its hash, in hexadecimal.
        python_file: Path of the main script for the Jobs API.
        libraries: `libraries` of the task that were uploaded.
        is_whole_run: Whether this process runs all steps of the run.
    """

    code: str
    code_sha256: str
    python_file: str
    libraries: tuple[dict[str, str], ...]
    is_whole_run: bool


class Uploads:
    """The uploads of one launcher.

    Args:
        api: The workspace.
        spec: How to launch.
        script: The main script of a run.

    Attributes:
        staging: Where the files are.
    """

    # Dagster runs whose files are kept; launchers of several cost classes share a run's folder.
    _kept: ClassVar[set[str]] = set()

    def __init__(self, api: Api, spec: LaunchSpec, script: Path) -> None:
        self._api, self._spec, self._script = api, spec, script
        self.staging: Staging = staging_of(api, spec.staging, spec.staging_path, script_folder=spec.script_folder)
        self._uploaded: dict[str, Uploaded] = {}

    def of(self, step: dg.StepExecutionContext) -> Uploaded:
        """Return what the run of this step shares; the first call uploads it.

        Raises:
            LaunchError: It can't be uploaded, or has a credential of the launching side in it.
        """
        run_id = step.dagster_run.run_id
        if run_id not in self._uploaded:
            project = project_of(step.dagster_run, self._spec.packages)
            packages = (*self._spec.packages, *project.packages)
            code = pack(packages, beside=project.files, forbidden=self._api.secrets)
            name = f"{run_id}/{code.name}"
            # Another launcher of this Dagster run may have uploaded it.
            if not self.staging.exists(name):
                self.staging.put(name, code.data)
                size = len(code.data) / 1024
                step.log.info(f"Code of this run: {len(code.files)} files, {size:.0f} KB, {code.name}")
            script = self._script.read_bytes()
            script_name = f"{run_id}/{self._script.stem}-{hashlib.sha256(script).hexdigest()[:12]}.py"
            python_file = self.staging.scripts.put(script_name, script)
            self._uploaded[run_id] = Uploaded(
                self.staging.on_cluster(name),
                hashlib.sha256(code.data).hexdigest(),
                python_file,
                self._libraries(run_id),
                executes_whole_run(step),
            )
        return self._uploaded[run_id]

    def _libraries(self, run_id: str) -> tuple[dict[str, str], ...]:
        """Upload the requirements file, beside the main script: pip runs what it names before anything is verified."""
        content = self._spec.requirements.encode()
        if not content:
            return ()
        name = f"{run_id}/requirements-{hashlib.sha256(content).hexdigest()[:12]}.txt"
        return ({"requirements": self.staging.scripts.put(name, content)},)

    def instructions(self, uploaded: Uploaded) -> dict[str, Any]:
        """Return what `cluster_main.prepare` and `reports.reporting` read."""
        spec = self._spec
        return {
            "code": uploaded.code,
            "code_sha256": uploaded.code_sha256,
            "versions": dict(spec.versions),
            "python_on_workers": spec.python_on_workers,
            # Not by `spark_env_vars`: the platform writes each as a line `export NAME='value'` of a shell script, and
            # does not escape the value (Clusters API, `spark_env_vars`: "exported as is").
            "env": dict(spec.env),
            "secrets": dict(spec.secrets),
            "flush_seconds": spec.poll_seconds,
            "orphan_seconds": spec.orphan_seconds,
        }

    def release(self, step: dg.StepExecutionContext, folder: str, *, failed: bool) -> None:
        """Remove the folder of a step that has ended, unless it failed and its files are to be kept."""
        if failed and self._spec.keep_staging_on_failure:
            self._kept.add(step.dagster_run.run_id)
            step.log.info(f"Staged files are kept: {self.staging.root}/{folder}")
            return
        try:
            self.staging.remove(folder)
        except Exception as error:  # noqa: BLE001 - files that stay must not fail a step that has ended
            step.log.warning(f"Staged files could not be removed ({self.staging.root}/{folder}): {error}")

    def runs(self) -> dict[str, bool]:
        """Return the Dagster runs of this launcher's steps, and whether this process runs all their steps."""
        return {run_id: uploaded.is_whole_run for run_id, uploaded in self._uploaded.items()}

    def close(self, is_over: Callable[[str], bool]) -> None:
        """Remove all files of the Dagster runs, unless they are to be kept or other processes still need them.

        Args:
            is_over: Whether a run whose steps run in processes of their own has ended. The reaper removes the files of
                a run that has not.
        """
        for run_id, uploaded in self._uploaded.items():
            if run_id in self._kept or not (uploaded.is_whole_run or is_over(run_id)):
                continue
            for remove in (self.staging.remove, self.staging.scripts.remove):
                with contextlib.suppress(Exception):  # the reaper removes what stays
                    remove(run_id)
        self._uploaded.clear()
