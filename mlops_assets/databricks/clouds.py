"""What a cluster asks of one cloud only: spot capacity, and the identity of its machines.

What belongs here: the attributes of each cloud in the Clusters API. What does not: the rest of a cluster (`cluster`),
which cloud a workspace is on (`profile`).
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final, Literal

Cloud = Literal["aws", "azure", "gcp"]

_SPOT: Final[dict[Cloud, dict[str, dict[str, Any]]]] = {
    "aws": {"aws_attributes": {"first_on_demand": 1, "availability": "SPOT_WITH_FALLBACK"}},
    "azure": {"azure_attributes": {"first_on_demand": 1, "availability": "SPOT_WITH_FALLBACK_AZURE"}},
    # On GCP this applies to executors only: the driver is on-demand anyway.
    "gcp": {"gcp_attributes": {"availability": "PREEMPTIBLE_WITH_FALLBACK_GCP"}},
}


def attributes_of(cloud: Cloud | None, *, spot: bool, instance_profile_arn: str | None) -> dict[str, dict[str, Any]]:
    """Return the attributes by the name of their object in `new_cluster`; none if nothing is asked for."""
    found = deepcopy(_SPOT[cloud]) if spot and cloud is not None else {}
    if instance_profile_arn is not None:
        found["aws_attributes"] = {**found.get("aws_attributes", {}), "instance_profile_arn": instance_profile_arn}
    return found
