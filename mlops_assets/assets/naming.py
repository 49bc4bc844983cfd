"""What a model's assets are called in Dagster, and how they are sorted there.

What belongs here: Dagster's form of the names that `spec.FraudModelSpec` derives. What does not: the names of assets
and tables (each asset's module).
"""

from typing import Final, Literal

import dagster as dg

from mlops_assets.spec import FraudModelSpec

STAGE_TAG: Final = "mlops_assets/stage"
Stage = Literal["source", "ingest", "splits", "training", "registry", "serving", "upkeep"]


def key_of(spec: FraudModelSpec, asset: str) -> dg.AssetKey:
    """Return the key of a model's asset."""
    return dg.AssetKey(spec.path(asset))


def stage_tag(stage: Stage) -> dict[str, str]:
    """Return the tag of the stage that an asset belongs to; its group is its model's."""
    return {STAGE_TAG: stage}
