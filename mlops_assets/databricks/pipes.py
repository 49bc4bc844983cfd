"""The launching side of `launcher: pipes`: runs an asset on Databricks through Dagster's own Pipes client.

What belongs here: the files and context of a run, its results, its failure. What does not: the session
(`pipes_client`), what runs on the cluster (`pipes_main`, `pipes_asset`, `pipes_results`), and how a run is submitted,
watched and cancelled, which is shared with the step launcher (`launch`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from databricks.sdk.errors.base import DatabricksError
from databricks.sdk.service.jobs import SubmitTask

from mlops_assets.dagster_internals import metadata_map_from_external
from mlops_assets.databricks import pipes_main
from mlops_assets.databricks.launch import submission
from mlops_assets.databricks.launch.api import Api
from mlops_assets.databricks.launch.attempt import Attempt
from mlops_assets.databricks.launch.project import module_of
from mlops_assets.databricks.launch.spec import LaunchSpec
from mlops_assets.databricks.launch.uploads import Uploaded, Uploads
from mlops_assets.databricks.pipes_asset import find_asset
from mlops_assets.databricks.pipes_client import (
    DatabricksPipes,
    Interrupted,
    NotSucceeded,
    PipesLaunch,
    Reported,
)
from mlops_assets.errors import PlatformError

DEFINITIONS = "mlops_assets.definitions:defs"


class PipesRunner:
    """Runs assets of one Dagster run on Databricks, each as a run of its own.

    An asset that gets one from its resource delegates to it: `yield from runner.run(context)`, and returns.

    Args:
        api: The workspace.
        spec: How to launch; `spec.poll_seconds` also bounds how late messages and logs arrive.
        definitions: `<module>:<name>` of the `Definitions` that hold the asset on the cluster, for runs that no code
            location has started (`dagster.materialize`).
    """

    def __init__(self, api: Api, spec: LaunchSpec, *, definitions: str = DEFINITIONS) -> None:
        self._api, self._spec, self._definitions = api, spec, definitions
        self._uploads = Uploads(api, spec, Path(pipes_main.__file__))

    def run(self, context: dg.AssetExecutionContext) -> Iterator[Reported]:
        """Run the asset of this context on Databricks and yield its results.

        Raises:
            dagster.Failure: The asset failed there, or could not be run. What it reported until then is yielded first.
        """
        step = context.op_execution_context.get_step_execution_context()
        attempt = Attempt.of(step)
        launch = PipesLaunch(log=context.log, folder=attempt.folder, context=context)
        failure: dg.Failure | None = None
        try:
            find_asset(self._location(context), _key_of(context))
            uploaded = self._uploads.of(step)
            body = submission.submission(
                self._spec,
                attempt,
                python_file=uploaded.python_file,
                parameters=[],
                libraries=uploaded.libraries,
            )
            client = DatabricksPipes(self._api, self._uploads.staging, self._spec, launch, body)
            task = SubmitTask.from_dict(body["tasks"][0])
            if self._spec.environment_version:
                # Dagster's client then passes its parameters by argument; serverless compute has no variables.
                task.existing_cluster_id = submission.ENVIRONMENT
            client.run(context=context, extras=self._extras(context, uploaded), task=task)
        except NotSucceeded:
            failure = self._failure(launch)
        except Interrupted:
            raise dg.DagsterExecutionInterruptedError from None
        except (PlatformError, DatabricksError) as error:
            failure = self._failure(launch, error)
        finally:
            # Dagster's client demands every output of the asset; an optional one may be left out here as elsewhere.
            step._requires_typed_event_stream = False  # noqa: SLF001 - there is no other way to take it back
            launch.cancel(self._api, self._spec.orphan_seconds)
            self._uploads.release(step, launch.folder, failed=not launch.succeeded)
        yield from launch.results()
        if failure is not None:
            raise failure

    def close(self, instance: dg.DagsterInstance) -> None:
        """Remove the staged files of this runner's Dagster runs, unless another process may still need them.

        Args:
            instance: Not used; a step launcher, which is closed in the same place, needs it.
        """
        del instance
        self._uploads.close(lambda _: False)

    # --- before the submit --------------------------------------------------------------------------------------------

    def _location(self, context: dg.AssetExecutionContext) -> str:
        found = module_of(context.run)
        return self._definitions if found is None else ":".join(found)

    def _extras(self, context: dg.AssetExecutionContext, uploaded: Uploaded) -> dict[str, Any]:
        run_config: Mapping[str, Any] = context.op_execution_context.run_config
        ops: Mapping[str, Any] = run_config.get("ops") or {}
        return {
            "asset": _key_of(context),
            "definitions": self._location(context),
            # As given: the code on the cluster applies the same defaults and types.
            "config": (ops.get(context.op_execution_context.op.name) or {}).get("config"),
            "resources_config": dict(run_config.get("resources") or {}),
            "run_tags": dict(context.run.tags),
            "launch": self._uploads.instructions(uploaded),
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
            return _failure_of(launch, problem, allow_retries=isinstance(error, PlatformError) and error.transient)
        if summary is not None:
            own = summary["failure"]
            if own is not None:
                metadata = dict(metadata_map_from_external(own["metadata"]))
                text = own["description"] or summary["text"]
                return _failure_of(launch, text, metadata=metadata, allow_retries=own["allow_retries"])
            text = summary["text"] if not summary["trace"] else f"{summary['type']}: {summary['text']}"
            return _failure_of(launch, text, trace=summary["trace"], allow_retries=False)
        if view is None or view.succeeded:
            problem = f"Databricks run {launch.run_id} succeeded, but its reports did not arrive"
            text = f"{problem}. Fix: check the storage behind {self._uploads.staging.root}"
            return _failure_of(launch, text, allow_retries=False)
        ending = launch.ending(self._api, view)
        return _failure_of(launch, ending.text, trace=ending.trace, allow_retries=ending.is_transient)


# --- helpers ----------------------------------------------------------------------------------------------------------


def _failure_of(
    launch: PipesLaunch,
    text: str,
    *,
    metadata: Mapping[str, Any] | None = None,
    trace: str = "",
    allow_retries: bool,
) -> dg.Failure:
    """Return a failure with its text and what is known about the run."""
    if launch.view is not None and launch.view.url:
        text = f"{text}\n\n{launch.view.url}"
    shown = {**(metadata or {}), **launch.evidence(trace)}
    return dg.Failure(description=text, metadata=shown, allow_retries=allow_retries)


def _key_of(context: dg.AssetExecutionContext) -> str:
    return min(key.to_escaped_user_string() for key in context.assets_def.keys)
