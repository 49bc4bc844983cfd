"""A code location whose assets do next to nothing, launched by the platform's own resource as a profile places them.

It travels to the cluster, so it imports nothing of the tests. The profile comes from a variable of the launching
process, which the cluster does not have. Annotations are not postponed: Dagster looks at that of `context`.
"""

import json
import os
from collections.abc import Iterator
from typing import Any, Literal

import dagster as dg

from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.placement import PLACE_TAG, check_placement

Results = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult | dg.AssetObservation | dg.AssetMaterialization]
PACKAGES = ["mlops_assets", "mlops_assets_tests.databricks.launch.placed_location"]


def _surroundings() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"runtime": os.environ.get("DATABRICKS_RUNTIME_VERSION", "none")})


@dg.asset
def small(context: dg.AssetExecutionContext, loader_cluster: StepLauncherResource) -> Results:
    if runner := loader_cluster.pipes(context):
        yield from runner.run(context)
        return
    yield _surroundings()


@dg.asset
def large(context: dg.AssetExecutionContext, trials_cluster: StepLauncherResource) -> Results:
    if runner := trials_cluster.pipes(context):
        yield from runner.run(context)
        return
    yield _surroundings()


def _cluster(cost_class: Literal["loader", "trials"]) -> StepLauncherResource:
    document = os.environ.get("PLACED_PROFILE")
    if document is None:
        return StepLauncherResource(cost_class=cost_class, active=False)
    profile: dict[str, Any] = json.loads(document)
    return StepLauncherResource(
        cost_class=cost_class,
        profile=profile,
        token=dg.EnvVar("PLACED_TOKEN"),
        env=json.loads(os.environ["PLACED_ENV"]),
        packages=PACKAGES,
        python_on_workers=False,
    )


def _assets() -> list[dg.AssetsDefinition]:
    document = os.environ.get("PLACED_PROFILE")
    chosen = {} if document is None else json.loads(document)["placement"]
    places = check_placement([small, large], chosen, where="profile")

    def placed(spec: dg.AssetSpec) -> dg.AssetSpec:
        name = spec.key.path[-1]
        return spec.merge_attributes(tags={PLACE_TAG: places[name]}) if name in places else spec

    return [asset.map_asset_specs(placed) for asset in (small, large)]


# Bound anew whenever it is imported: the variables differ from test to test.
location = dg.Definitions(
    assets=_assets(),
    jobs=[dg.define_asset_job(f"{asset.key.to_user_string()}_job", [asset]) for asset in (small, large)],
    resources={"loader_cluster": _cluster("loader"), "trials_cluster": _cluster("trials")},
)
