"""The reasons why a cluster does not start, as the platform reports them.

What belongs here: termination reasons with their texts. What does not: injecting one (`faults`, `clusters`).

A reason is a code, a type and parameters (`databricks.sdk.service.compute.TerminationReason`); the cluster's
`state_message` repeats the help text and the parameters. Shapes follow reports of users: SPARK_ERROR in
Azure/azure-databricks-client PR 22, SELF_BOOTSTRAP_FAILURE in SAFEHR-data/FlowEHR issue 141, SECRET_RESOLUTION_ERROR in
microsoft/Purview-ADB-Lineage-Solution-Accelerator issue 76, and the quota text in MicrosoftLearning/DP-200 issue 88.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class StartFailure:
    """A termination reason.

    Attributes:
        code: One of `TerminationReasonCode`.
        type: `CLIENT_ERROR`, `CLOUD_FAILURE` or `SERVICE_FAULT`.
        text: The help text of the code.
        parameters: Details from the cloud or the platform, such as `azure_error_code`.
    """

    code: str
    type: str
    text: str
    parameters: Mapping[str, str]

    def reason(self) -> dict[str, Any]:
        """Return the `termination_reason` of the cluster."""
        return {"code": self.code, "type": self.type, "parameters": dict(self.parameters)}

    def cluster_message(self) -> str:
        """Return the `state_message` of the cluster."""
        details = ", ".join(f"{name}: {value}" for name, value in self.parameters.items())
        return f"{self.text} {details}".strip()

    def run_message(self, cluster_id: str) -> str:
        """Return the `state_message` of a task that waited for the cluster."""
        details = ", ".join(f"{name}:{value}" for name, value in self.parameters.items())
        return f"Cluster '{cluster_id}' was terminated. Reason: {self.code} ({self.type}). Parameters: {details}."


STOCKOUT = StartFailure(
    "CLOUD_PROVIDER_RESOURCE_STOCKOUT",
    "CLOUD_FAILURE",
    "The cloud provider has run out of the requested machines.",
    {
        "azure_error_code": "SkuNotAvailable",
        "azure_error_message": "The requested VM size is currently not available in the location. Please try another "
        "size or deploy to a different location or different zone.",
    },
)
QUOTA = StartFailure(
    "AZURE_QUOTA_EXCEEDED_EXCEPTION",
    "CLIENT_ERROR",
    "A cloud provider error was encountered while setting up the cluster.",
    {
        "azure_error_code": "QuotaExceeded",
        "azure_error_message": "Operation could not be completed as it results in exceeding approved Total Regional "
        "Cores quota.",
    },
)
NO_SPOT = StartFailure(
    "AWS_MAX_SPOT_INSTANCE_COUNT_EXCEEDED_FAILURE",
    "CLIENT_ERROR",
    "The limit of spot instances of the cloud account is reached.",
    {"aws_api_error_code": "MaxSpotInstanceCountExceeded", "aws_error_message": "Max spot instance count exceeded"},
)
POOL_FULL = StartFailure(
    "INSTANCE_POOL_MAX_CAPACITY_REACHED",
    "CLIENT_ERROR",
    "The instance pool has reached its maximum capacity.",
    {"databricks_error_message": "Instance pool has reached its max capacity."},
)
POOL_GONE = StartFailure(
    "INSTANCE_POOL_NOT_FOUND",
    "CLIENT_ERROR",
    "The instance pool did not exist when the cluster was launched.",
    {"databricks_error_message": "Instance pool not found."},
)
NODE_TYPE = StartFailure(
    "UNSUPPORTED_INSTANCE_TYPE",
    "CLIENT_ERROR",
    "The requested machine type can't be launched.",
    {"databricks_error_message": "The node type is not supported in this region."},
)
SECRETS = StartFailure(
    "SECRET_RESOLUTION_ERROR",
    "SERVICE_FAULT",
    "Internal error resolving secrets.",
    {"databricks_error_message": "Failed to fetch secrets referred to in Spark Conf"},
)
ENVIRONMENT = StartFailure(
    "SPARK_STARTUP_FAILURE",
    "SERVICE_FAULT",
    "Spark failed to start.",
    {"databricks_error_message": "The script of the cluster's environment variables (spark-env.sh) failed"},
)
SPOT_LOSS = StartFailure(
    "SPOT_INSTANCE_TERMINATION",
    "CLOUD_FAILURE",
    "The cloud provider reclaimed the spot instance of the driver.",
    {"databricks_error_message": "Driver was lost: spot instance terminated."},
)
DRIVER_LOST = StartFailure(
    "DRIVER_UNREACHABLE",
    "SERVICE_FAULT",
    "Spark driver was unreachable.",
    {"databricks_error_message": "Spark error: Driver down"},
)
