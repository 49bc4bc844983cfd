"""The resource that launches a step on Databricks, or lets it run in this process.

What belongs here: making a launcher from a profile, for one cost class. What does not: launching
(`mlops_assets.databricks.launch`), which asset uses which cost class (assets), reading the environment (`deployment`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, cast

import dagster as dg
from pydantic import Field, PrivateAttr

from mlops_assets.errors import SettingsError
from mlops_assets.resources.connection import Connection

if TYPE_CHECKING:
    from mlops_assets.databricks.cluster import CostClass
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.spec import LaunchSpec
    from mlops_assets.databricks.launch.staging import Staging
    from mlops_assets.databricks.pipes import PipesRunner
    from mlops_assets.databricks.profile import DatabricksProfile, Placement

# Dagster aborts a tick after 60 s; a call that starts in time may take twice the timeout (connect, read).
_TICK_S, _TICK_PATIENCE_S = 30, 10


class StepLauncherResource(Connection, dg.IAttachDifferentObjectToOpContext):
    """Launches steps on the cluster of a cost class; if `active` is false, steps run in this process.

    An asset takes it as `step_launcher: dg.ResourceParam[Any]`; Dagster does the rest. A tag of
    the asset (`placement.PLACE_TAG`) sends its step elsewhere.

    Attributes:
        cost_class: Name of the cluster in the profile.
        active: Whether to launch at all; false without Databricks, and on the cluster, where the step already runs.
        profile: The profile's document (`DatabricksProfile.model_dump(mode="json", by_alias=True, exclude_none=True)`).
        token: Personal access token; give it as `EnvVar`, so that it is masked in the UI.
        client_id: Application id of a service principal, as an alternative to a token.
        client_secret: Its OAuth secret; give it as `EnvVar`.
        unified_login: Without those, databricks-sdk looks for an identity (`databricks.login`).
        env: Environment variables of the step on the cluster; no secrets.
        packages: Import names of the packages to upload.
        python_on_workers: Whether functions that Spark runs on the workers can import these packages.
    """

    cost_class: Literal["loader", "trials"]
    active: bool = True
    profile: dict[str, Any] = Field(default_factory=dict)
    token: str = ""
    client_id: str = ""
    client_secret: str = ""
    unified_login: bool = False
    env: dict[str, str] = Field(default_factory=dict)
    packages: list[str] = Field(default_factory=lambda: ["mlops_assets"])
    python_on_workers: bool = True

    _launchers: dict[str, Any] = PrivateAttr(default_factory=dict)
    _placed: Any = PrivateAttr(default=None)

    def get_object_to_set_on_execution_context(self) -> dg.StepLauncher | PipesRunner | None:
        """Return the object that Dagster uses for this resource: a launcher, or None to run the step here.

        With `launcher: pipes`, Dagster does not treat it as a step launcher; the asset itself calls it.

        Raises:
            SettingsError: The profile is invalid, or a cluster's versions do not match this machine's.
        """
        if not self.active:
            return None
        # Made now, so that versions are compared before the first cluster starts.
        launcher = self._launcher_of(self.cost_class)
        if self._profile().launcher == "step":
            if self._placed is None:
                from mlops_assets.databricks.launch.placing import PlacedSteps

                self._placed = PlacedSteps(self._step_launcher)
            return cast("dg.StepLauncher", self._placed)
        return cast("PipesRunner", launcher)

    def pipes(self, context: dg.AssetExecutionContext) -> PipesRunner | None:
        """Return the runner that an asset must call, or None to continue in this process.

        Dagster calls a step launcher before the asset's body runs; with `launcher: pipes` the body calls the runner.

        Raises:
            dagster.Failure: The asset is placed here, but its tables can't be reached from here.
        """
        if not self.active or self._profile().launcher != "pipes":
            return None
        place = self._place(context.op_execution_context.get_step_execution_context())
        return None if place == "local" else cast("PipesRunner", self._launcher_of(place))

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Remove the files that the run has staged."""
        if context.instance is not None:
            for launcher in self._launchers.values():
                launcher.close(context.instance)

    def _step_launcher(self, step: dg.StepExecutionContext) -> dg.StepLauncher | None:
        place = self._place(step)
        return None if place == "local" else cast("dg.StepLauncher", self._launcher_of(place))

    def _place(self, step: dg.StepExecutionContext) -> Placement:
        """Return where a step runs: where its tag says, otherwise on the cluster of its cost class."""
        from mlops_assets.resources.placement import PLACE_TAG, require_tables_here

        keys, layer = step.get_output_asset_keys(), step.job_def.asset_layer
        place = next((layer.get(key).tags[PLACE_TAG] for key in keys if PLACE_TAG in layer.get(key).tags), None)
        place = place or self.cost_class
        if place == "local":
            assets = sorted(key.to_user_string() for key in keys)
            try:
                # `resources` only has the resources that the step itself requires.
                require_tables_here(getattr(step.resources, "lakehouse", None), assets=assets)
            except SettingsError as error:
                raise dg.Failure(str(error), allow_retries=False) from None
        return cast("Placement", place)

    def _launcher_of(self, cost_class: CostClass) -> Any:
        if cost_class not in self._launchers:
            from mlops_assets.databricks.launch.launcher import DatabricksStepLauncher

            profile = self._profile()
            spec = launch_spec(
                profile,
                cost_class,
                env=self.env,
                packages=tuple(self.packages),
                python_on_workers=self.python_on_workers,
            )
            if profile.launcher == "pipes":
                from mlops_assets.databricks.pipes import PipesRunner

                self._launchers[cost_class] = PipesRunner(self._api(), spec)
            else:
                self._launchers[cost_class] = DatabricksStepLauncher(
                    self._api(), spec, lambda step: _has_followers(step, cost_class)
                )
        return self._launchers[cost_class]

    def connect(self) -> tuple[Api, Staging]:
        """Return workspace and staging for the reaper, with time limits that fit into one tick of a sensor."""
        from mlops_assets.databricks.launch.staging import staging_of

        profile = self._profile()
        api = self._api(retry_seconds=_TICK_PATIENCE_S, http_timeout_seconds=_TICK_PATIENCE_S, budget_seconds=_TICK_S)
        return api, staging_of(api, profile.staging, profile.staging_path)

    def _profile(self) -> DatabricksProfile:
        from mlops_assets.databricks.profile import DatabricksProfile

        return DatabricksProfile.model_validate(self.profile)

    def _api(self, **limits: Any) -> Api:
        from mlops_assets.databricks.launch.api import Api, Credentials

        host = str(self.profile["host"])
        login = Credentials(host, self.token, self.client_id, self.client_secret, self.unified_login)
        return Api(login, **limits)


def _has_followers(step: dg.StepExecutionContext, cost_class: CostClass) -> bool:
    """Whether a later step of the same Dagster run is placed on the cluster of this class."""
    from mlops_assets.databricks.launch.run_steps import steps_to_come
    from mlops_assets.resources.placement import places_of_steps

    coming = steps_to_come(step)
    return any(place == cost_class and name in coming for name, place in places_of_steps(step.job_def).items())


def launch_spec(
    profile: DatabricksProfile,
    cost_class: Literal["loader", "trials"],
    *,
    env: Mapping[str, str],
    packages: tuple[str, ...] = ("mlops_assets",),
    python_on_workers: bool = True,
) -> LaunchSpec:
    """Return how a profile launches steps of a cost class.

    This compares the versions of both sides for the first time, before anything costs money.

    Args:
        profile: The Databricks environment.
        cost_class: Name of the cluster in the profile.
        env: Environment variables of the step on the cluster.
        packages: Import names of the packages to upload.
        python_on_workers: Whether functions that Spark runs on the workers can import these packages.

    Raises:
        SettingsError: The versions of the cluster's runtime do not match this machine's.
    """
    from mlops_assets.databricks.launch.spec import LaunchSpec
    from mlops_assets.databricks.libraries import cluster_libraries, requirements_file
    from mlops_assets.databricks.preflight import local_versions, require_compatible, runtime_versions

    cluster = profile.cluster(cost_class)
    runtime, versions = cluster.databricks_runtime, local_versions()
    if cluster.existing_cluster_id is None:
        require_compatible(versions, runtime_versions(runtime), where=f"clusters.{cost_class}.runtime {runtime.key}")
    access = cluster.access_control()
    return LaunchSpec(
        cluster=cluster.new_cluster(tags={"cost_class": cost_class}) if cluster.starts_cluster else {},
        existing_cluster_id=cluster.existing_cluster_id,
        environment_version=runtime.environment_version,
        libraries=cluster_libraries(runtime, index=profile.package_index) if profile.staging == "dbfs" else (),
        requirements="" if profile.staging == "dbfs" else requirements_file(runtime, profile.package_index),
        budget_policy_id=profile.budget_policy_id,
        staging=profile.staging,
        staging_path=profile.staging_path,
        packages=packages,
        python_on_workers=python_on_workers,
        env=env,
        secrets={name: f"{reference.scope}/{reference.key}" for name, reference in profile.secrets.items()},
        versions=asdict(versions),
        job_permissions=access["job"],
        cluster_permissions=access["cluster"],
        timeout_seconds=cluster.timeout_seconds,
        reuse_seconds=cluster.reuse_minutes * 60.0,
        keep_staging_on_failure=profile.keep_staging_on_failure,
        poll_seconds=profile.poll_seconds,
        orphan_seconds=profile.reap_after_minutes * 60.0,
    )
