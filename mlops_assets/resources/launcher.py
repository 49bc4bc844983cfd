"""The resource that sends a step to Databricks, or lets it run where it is.

What belongs here: making a launcher of a profile, for one cost class. What does not: launching
(`mlops_assets.databricks.launch`), which asset uses which cost class (assets), reading the environment (`settings`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal, cast

import dagster as dg
from dagster._config.pythonic_config import IAttachDifferentObjectToOpContext
from pydantic import Field, PrivateAttr

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.api import Api
    from mlops_assets.databricks.launch.launcher import DatabricksStepLauncher
    from mlops_assets.databricks.launch.spec import LaunchSpec
    from mlops_assets.databricks.launch.staging import Staging
    from mlops_assets.databricks.pipes import PipesRunner
    from mlops_assets.databricks.profile import DatabricksProfile


class StepLauncherResource(dg.ConfigurableResource[Any], IAttachDifferentObjectToOpContext):
    """Launches steps on the cluster of a cost class; where `active` is false, steps run where they are.

    An asset takes it as `step_launcher: dg.ResourceParam[Any]`; Dagster does the rest.

    Attributes:
        cost_class: Which of the profile's clusters.
        active: Whether to launch at all: not on one's own machine, and not on the cluster, where the step has arrived.
        profile: The profile's document (`DatabricksProfile.model_dump(mode="json", by_alias=True)`).
        token: Personal access token; give it as `EnvVar`, so that it is masked in the UI.
        client_id: Application id of a service principal, instead of a token.
        client_secret: Its OAuth secret; give it as `EnvVar`.
        env: Environment variables of the step on the cluster; nothing secret.
        packages: Import names of the packages that travel.
        python_on_workers: Whether functions that Spark runs on the workers may import them.
    """

    cost_class: Literal["loader", "trials"]
    active: bool = True
    profile: dict[str, Any] = Field(default_factory=dict)
    token: str = ""
    client_id: str = ""
    client_secret: str = ""
    env: dict[str, str] = Field(default_factory=dict)
    packages: list[str] = Field(default_factory=lambda: ["mlops_assets"])
    python_on_workers: bool = True

    _launcher: Any = PrivateAttr(default=None)

    def get_object_to_set_on_execution_context(self) -> DatabricksStepLauncher | PipesRunner | None:
        """Return what Dagster finds at the resource's place: a launcher, or None to run the step here.

        With `launcher: pipes` it is no step launcher to Dagster; the asset hands over to it.

        Raises:
            SettingsError: The profile can't be used, or its cluster does not go with this machine's versions.
        """
        if not self.active:
            return None
        if self._launcher is None:
            from mlops_assets.databricks.launch.launcher import DatabricksStepLauncher

            spec = launch_spec(
                self._profile(),
                self.cost_class,
                env=self.env,
                packages=tuple(self.packages),
                python_on_workers=self.python_on_workers,
            )
            if self._profile().launcher == "pipes":
                from mlops_assets.databricks.pipes import PipesRunner

                self._launcher = PipesRunner(self._api(), spec)
            else:
                self._launcher = DatabricksStepLauncher(self._api(), spec)
        launcher: DatabricksStepLauncher | PipesRunner = self._launcher
        return launcher

    def pipes(self) -> PipesRunner | None:
        """Return the runner that an asset hands over to, or None to go on.

        A step launcher is taken by Dagster before the asset's body is reached; with `launcher: pipes` it is the body
        that hands over.
        """
        if not self.active or self._profile().launcher != "pipes":
            return None
        return cast("PipesRunner", self.get_object_to_set_on_execution_context())

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:
        """Remove what the run has staged."""
        if self._launcher is not None and context.instance is not None:
            self._launcher.close(context.instance)

    def connect(self) -> tuple[Api, Staging]:
        """Return workspace and staging, as the reaper takes them."""
        from mlops_assets.databricks.launch.staging import staging_of

        profile, api = self._profile(), self._api()
        return api, staging_of(api, profile.staging, profile.staging_path)

    def _profile(self) -> DatabricksProfile:
        from mlops_assets.databricks.profile import DatabricksProfile

        return DatabricksProfile.model_validate(self.profile)

    def _api(self) -> Api:
        from mlops_assets.databricks.launch.api import Api, Credentials

        host = str(self.profile["host"])
        return Api(Credentials(host, self.token, self.client_id, self.client_secret))


def launch_spec(
    profile: DatabricksProfile,
    cost_class: Literal["loader", "trials"],
    *,
    env: Mapping[str, str],
    packages: tuple[str, ...] = ("mlops_assets",),
    python_on_workers: bool = True,
) -> LaunchSpec:
    """Return how a profile launches steps of a cost class.

    The two sides' versions are compared here for the first time, before anything costs money.

    Args:
        profile: The environment.
        cost_class: Which of its clusters.
        env: Environment variables of the step on the cluster.
        packages: Import names of the packages that travel.
        python_on_workers: Whether functions that Spark runs on the workers may import them.

    Raises:
        SettingsError: The cluster's runtime does not go with this machine's versions.
    """
    from mlops_assets.databricks.launch.spec import LaunchSpec
    from mlops_assets.databricks.libraries import cluster_libraries
    from mlops_assets.databricks.preflight import local_versions, require_compatible, runtime_versions

    cluster = profile.cluster(cost_class)
    runtime, versions = cluster.databricks_runtime, local_versions()
    if cluster.existing_cluster_id is None:
        require_compatible(versions, runtime_versions(runtime), where=f"clusters.{cost_class}.runtime {runtime.key}")
    access = cluster.access_control()
    return LaunchSpec(
        cluster={} if cluster.existing_cluster_id else cluster.new_cluster(tags={"cost_class": cost_class}),
        existing_cluster_id=cluster.existing_cluster_id,
        libraries=cluster_libraries(runtime),
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
        keep_staging_on_failure=profile.keep_staging_on_failure,
        poll_seconds=profile.poll_seconds,
        orphan_seconds=profile.reap_after_minutes * 60.0,
    )
