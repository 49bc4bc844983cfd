"""The launching side of `launcher: pipes`: runs an asset on Databricks through Dagster's own Pipes client.

What belongs here: the files and context of a run, its results, its failure. What does not: the session
(`pipes_client`), what runs on the cluster (`pipes_main`, `pipes_asset`), and how a run is submitted, watched and
cancelled, which is shared with the step launcher (`launch`).
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast

import dagster as dg
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.jobs import SubmitTask

from mlops_assets.dagster_internals import metadata_map_from_external
from mlops_assets.databricks import pipes_main
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.code import pack
from mlops_assets.databricks.launch.failures import reason_of, tail
from mlops_assets.databricks.launch.run_steps import executes_whole_run
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.staging import Staging, staging_of
from mlops_assets.databricks.pipes_client import (
    DatabricksPipes,
    Interrupted,
    NotSucceeded,
    PipesLaunch,
    Result,
    page_of,
)
from mlops_assets.errors import LaunchError, PlatformError

DEFINITIONS = "mlops_assets.definitions:defs"


class PipesRunner:
    """Runs assets of one Dagster run on Databricks, each as a run of its own.

    An asset that gets one from its resource delegates to it: `yield from runner.run(context)`, and returns.

    Args:
        api: The workspace.
        spec: How to launch; `spec.poll_seconds` also bounds how late messages and logs arrive.
        definitions: `<module>:<name>` of the `Definitions` whose resources the asset gets on the cluster.
    """

    # Dagster runs whose files are kept; runners of several cost classes share a run's folder.
    _kept: ClassVar[set[str]] = set()

    def __init__(self, api: Api, spec: LaunchSpec, *, definitions: str = DEFINITIONS) -> None:
        self._api, self._spec, self._definitions = api, spec, definitions
        self._staging: Staging = staging_of(api, spec.staging, spec.staging_path, script_folder=spec.script_folder)
        self._staged: dict[str, _Staged] = {}

    def run(self, context: dg.AssetExecutionContext) -> Iterator[Result]:
        """Run the asset of this context on Databricks and yield its results.

        Raises:
            dagster.Failure: The asset failed there, or could not be run. What it reported until then is yielded first.
        """
        attempt = Attempt.of(context.op_execution_context.get_step_execution_context())
        launch = PipesLaunch(context, attempt.folder)
        failure: dg.Failure | None = None
        try:
            staged = self._stage(context, attempt.dagster_run)
            body = submission.submission(self._spec, attempt, python_file=staged.python_file, parameters=[])
            client = DatabricksPipes(self._api, self._staging, self._spec, launch, body)
            client.run(
                context=context, extras=self._extras(context, staged), task=SubmitTask.from_dict(body["tasks"][0])
            )
        except NotSucceeded:
            failure = self._failure(launch)
        except Interrupted:
            raise dg.DagsterExecutionInterruptedError from None
        except (PlatformError, DatabricksError) as error:
            failure = self._failure(launch, error)
        finally:
            self._end(launch)
        yield from launch.results()
        if failure is not None:
            raise failure

    def close(self, instance: dg.DagsterInstance) -> None:
        """Remove the staged files of this runner's Dagster runs, unless another process may still need them.

        Args:
            instance: Not used; a step launcher, which is closed in the same place, needs it.
        """
        del instance
        for run_id, staged in self._staged.items():
            if run_id in self._kept or not staged.is_whole_run:
                continue  # the reaper removes them when the run has ended
            with contextlib.suppress(PlatformError, DatabricksError):
                self._staging.remove(run_id)
                self._staging.remove_scripts(run_id)
        self._staged.clear()

    # --- before the submit --------------------------------------------------------------------------------------------

    def _stage(self, context: dg.AssetExecutionContext, run_id: str) -> _Staged:
        """Upload what all assets of a run share."""
        if run_id not in self._staged:
            code = pack(self._spec.packages, forbidden=self._api.secrets)
            name = f"{run_id}/{code.name}"
            # Another runner of this Dagster run may have uploaded it.
            if not self._staging.exists(name):
                self._staging.put(name, code.data)
                size = len(code.data) / 1024
                context.log.info(f"Code of this run: {len(code.files)} files, {size:.0f} KB, {code.name}")
            script = Path(pipes_main.__file__).read_bytes()
            script_name = f"{run_id}/pipes_main-{hashlib.sha256(script).hexdigest()[:12]}.py"
            python_file = self._staging.put_script(script_name, script)
            step = context.op_execution_context.get_step_execution_context()
            self._staged[run_id] = _Staged(self._staging.on_cluster(name), python_file, executes_whole_run(step))
        return self._staged[run_id]

    def _extras(self, context: dg.AssetExecutionContext, staged: _Staged) -> dict[str, Any]:
        spec, existing = self._spec, self._spec.existing_cluster_id is not None
        run_config: Mapping[str, Any] = context.op_execution_context.run_config
        ops: Mapping[str, Any] = run_config.get("ops") or {}
        return {
            "asset": _importable(context.assets_def),
            "definitions": self._definitions,
            # As given: the code on the cluster applies the same defaults and types.
            "config": (ops.get(context.op_execution_context.op.name) or {}).get("config"),
            "resources_config": dict(run_config.get("resources") or {}),
            "run_tags": dict(context.run.tags),
            "launch": {
                "code": staged.code,
                "versions": dict(spec.versions),
                "python_on_workers": spec.python_on_workers,
                # A new cluster gets these from its `spark_env_vars`.
                "env": dict(spec.env) if existing else {},
                "secrets": dict(spec.secrets) if existing else {},
                "flush_seconds": spec.poll_seconds,
                "orphan_seconds": spec.orphan_seconds,
            },
        }

    # --- afterwards ---------------------------------------------------------------------------------------------------

    def _failure(self, launch: PipesLaunch, error: Exception | None = None) -> dg.Failure:
        """Return the failure that Dagster shows: the asset's own message or the run's, and where to look.

        Args:
            launch: The launch.
            error: The error on this side, if there was one.
        """
        view, summary = launch.view, launch.failure
        if error is not None:
            problem = str(error) if isinstance(error, PlatformError) else f"the workspace rejected a call: {error}"
            return _failure_of(launch, problem, allow_retries=False)
        if summary is not None:
            own = summary["failure"]
            if own is not None:
                metadata = dict(metadata_map_from_external(own["metadata"]))
                text = own["description"] or summary["text"]
                return _failure_of(launch, text, metadata=metadata, allow_retries=own["allow_retries"])
            text = summary["text"] if not summary["trace"] else f"{summary['type']}: {summary['text']}"
            return _failure_of(launch, text, trace=summary["trace"], allow_retries=bool(summary["trace"]))
        if view is None or view.succeeded:
            problem = f"Databricks run {launch.run_id} succeeded, but its reports did not arrive"
            return _failure_of(launch, f"{problem}. Fix: check the storage behind {self._staging.root}")
        answer = submission.output(self._api, view)
        reason = reason_of(view, cluster_code=submission.termination_code(self._api, view))
        summary_text = f": {answer['error']}" if answer.get("error") and answer["error"] != view.message else ""
        problem = f"Databricks run {view.run_id} failed, {reason.what}. {view.state}{summary_text} Fix: {reason.fix}"
        launch.stderr = launch.stderr or answer.get("logs") or ""
        return _failure_of(launch, problem, trace=answer.get("error_trace") or "", allow_retries=reason.is_transient)

    def _end(self, launch: PipesLaunch) -> None:
        """Clean up: cancel a run that is still active, and remove files that are no longer needed."""
        log, run_id = launch.context.log, launch.context.run.run_id
        if launch.run_id is not None and not (launch.view is not None and launch.view.has_ended):
            try:
                submission.cancel(self._api, launch.run_id)
            except (PlatformError, DatabricksError) as error:
                log.error(  # noqa: TRY400 - the text says it all; the traceback would be an HTTP client's
                    f"Databricks run {launch.run_id} could not be cancelled ({error}). It ends by itself after "
                    f"{self._spec.orphan_seconds:g} s without a heartbeat."
                )
            else:
                log.info(f"Databricks run {launch.run_id} was cancelled.")
        if not launch.succeeded and self._spec.keep_staging_on_failure:
            self._kept.add(run_id)
            log.info(f"Staged files are kept: {self._staging.root}/{launch.folder}")
            return
        try:
            self._staging.remove(launch.folder)
        except (PlatformError, DatabricksError) as error:
            log.warning(f"Staged files could not be removed ({self._staging.root}/{launch.folder}): {error}")


@dataclass(frozen=True)
class _Staged:
    """What is uploaded once for all assets of a run.

    Attributes:
        code: Path of the zip on the cluster.
        python_file: Path of the main script for the Jobs API.
        is_whole_run: Whether this process runs all steps of the run.
    """

    code: str
    python_file: str
    is_whole_run: bool


# --- helpers ----------------------------------------------------------------------------------------------------------


def _failure_of(
    launch: PipesLaunch,
    text: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    trace: str = "",
    allow_retries: bool = True,
) -> dg.Failure:
    """Return a failure with its text and what is known about the run."""
    shown = dict(metadata or {})
    if launch.view is not None:
        shown |= page_of(launch.view)
        text = f"{text}\n\n{launch.view.url}" if launch.view.url else text
    for title, content in (("traceback on the cluster", trace), ("end of stderr", launch.stderr)):
        if content:
            shown[title] = dg.MetadataValue.md(f"```\n{tail(content)}\n```")
    return dg.Failure(description=text, metadata=shown, allow_retries=allow_retries)


def _importable(asset: dg.AssetsDefinition) -> str:
    """Return `<module>:<name>` of an asset, by which the cluster imports it.

    Raises:
        LaunchError: It can't be imported by a name.
    """
    function: Any = getattr(cast("Any", asset.op.compute_fn), "decorated_fn", None)
    module, name = getattr(function, "__module__", "__main__"), getattr(function, "__qualname__", ".")
    if module == "__main__" or "." in name:
        raise LaunchError(
            f"{asset.op.name} can't be imported on the cluster",
            where=f"{module}:{name}",
            fix="define assets by a decorated function at the top level of a module in the packages that are sent",
        )
    return f"{module}:{name}"
