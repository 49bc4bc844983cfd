"""What a model's assets are called in Dagster.

What belongs here: Dagster's form of the names that `spec.FraudModelSpec` derives. What does not: the names of assets
and tables (each asset's module).
"""

import dagster as dg

from mlops_assets.spec import FraudModelSpec


def key_of(spec: FraudModelSpec, asset: str) -> dg.AssetKey:
    """Return the key of a model's asset."""
    return dg.AssetKey(spec.path(asset))


def group_of(spec: FraudModelSpec, stage: str) -> str:
    """Return the group of a model's asset: the model's own, or one per stage."""
    return spec.group or stage
