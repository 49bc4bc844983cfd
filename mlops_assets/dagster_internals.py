"""Every private name of Dagster that this project uses; no other module imports from `dagster._*`.

What belongs here: imports of what Dagster 1.13.27 does not offer as `dagster.<name>`. What does not: public names
(import those from `dagster`), code.

The module stands above the rooms because several need it, and `instance` and `automation` may not import `databricks`.
A new version of Dagster may move or drop any of these names: a test lists each one that the installed version lacks,
and CI runs `mlops_assets_tests/dagster_names.py` with each minor version that the project may be used with. Who needs
what:

- `databricks.launch.project`: the module of a code location (`ModuleCodePointer`);
- `databricks.launch.launcher`: how the cluster finds a code location again (`ModuleCodePointer`,
  `PackageCodePointer`), a copy of a run with other fields (`copy`), the payloads of events (`EngineEventData`,
  `StepFailureData`, `UserFailureData`), and how a step ended (`StepEventStatus`);
- `databricks.launch.placing`: what Dagster runs for a step without a launcher (`core_dagster_event_sequence_for_step`);
- `databricks.pipes_results`: metadata in Dagster's own types (`normalize_metadata`);
- `databricks.pipes`, `databricks.pipes_client`: metadata that came through Pipes (`metadata_map_from_external`), and
  the payload of an event (`EngineEventData`);
- `instance.run_launcher`: what a run launcher says about a run's process (`CheckRunHealthResult`, `WorkerStatus`), and
  the tag with the address of the code server (`GRPC_INFO_TAG`);
- `automation.jobs`: the type of a job of assets (`UnresolvedAssetJobDefinition`);
- `automation.outcomes`: the tag with a sensor's run key (`RUN_KEY_TAG`);
- `automation.conditions`: what became of a check in a run (`AssetCheckExecutionRecordStatus`);
- `cli.run_job`: a job that another process can load again (`ReconstructableRepository`), run with a listener on its
  events (`execute_run`), whether it was interrupted (`RunFailureReason`), and what starts the processes that show a
  step's output (`compute_logs`).

`instance.guarded_dagster` also replaces a function of `dagster._cli.dev`, which it imports by name: that takes 0.2 s,
which no other program needs.
"""

from dagster._core.code_pointer import ModuleCodePointer, PackageCodePointer
from dagster._core.definitions.metadata import normalize_metadata
from dagster._core.definitions.metadata.external_metadata import metadata_map_from_external
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.events import EngineEventData, RunFailureReason
from dagster._core.execution import compute_logs
from dagster._core.execution.api import execute_run
from dagster._core.execution.plan.execute_step import core_dagster_event_sequence_for_step
from dagster._core.execution.plan.objects import StepFailureData, UserFailureData
from dagster._core.execution.stats import StepEventStatus
from dagster._core.launcher import CheckRunHealthResult, WorkerStatus
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.storage.tags import GRPC_INFO_TAG, RUN_KEY_TAG
from dagster_shared.record import copy

__all__ = [
    "GRPC_INFO_TAG",
    "RUN_KEY_TAG",
    "AssetCheckExecutionRecordStatus",
    "CheckRunHealthResult",
    "EngineEventData",
    "ModuleCodePointer",
    "PackageCodePointer",
    "ReconstructableRepository",
    "RunFailureReason",
    "StepEventStatus",
    "StepFailureData",
    "UnresolvedAssetJobDefinition",
    "UserFailureData",
    "WorkerStatus",
    "compute_logs",
    "copy",
    "core_dagster_event_sequence_for_step",
    "execute_run",
    "metadata_map_from_external",
    "normalize_metadata",
]
