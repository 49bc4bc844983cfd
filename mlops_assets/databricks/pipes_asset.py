"""Runs the asset on the cluster with `launcher: pipes`: calls its function and reports what that yields.

What belongs here: finding the asset, and the arguments of its function. What does not: the conversion of results to
Pipes (`pipes_results`), starting and ending the script (`pipes_main`), the launching side (`pipes`).

The asset's function is called as any other function: with its config, its resources, and a context of ours that has
what is known on the cluster. Dagster runs no step there.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import GeneratorType
from typing import Any, NoReturn, cast, get_type_hints

import dagster as dg
from dagster_pipes import PipesContext
from pydantic import ValidationError

from mlops_assets.databricks.launch.step_on_cluster import reporting_tags
from mlops_assets.databricks.pipes_results import report
from mlops_assets.errors import LaunchError


def run_asset(pipes: PipesContext) -> None:
    """Run the asset that the extras name and report what it yields.

    The extras are those of `pipes.PipesRunner`.

    Raises:
        Exception: Whatever the asset raises.
        LaunchError: The extras name something that does not exist, or the asset yields what Pipes can't carry.
    """
    extras = pipes.extras
    definitions, asset = find_asset(extras["definitions"], extras["asset"])
    function: Callable[..., Any] = cast("Any", asset.op.compute_fn).decorated_fn
    available = definitions.resources or {}
    resources = {key: available[key] for key in asset.required_resource_keys if key in available}
    config = {key: value for key, value in extras["resources_config"].items() if key in resources}
    run = dg.DagsterRun(job_name=str(pipes.job_name), run_id=pipes.run_id, tags=extras["run_tags"])
    with (
        dg.DagsterInstance.ephemeral() as instance,
        dg.build_resources(resources, instance=instance, resource_config=config, dagster_run=run) as made,
        reporting_tags(instance, run, lambda added: pipes.report_custom_message({"run_tags": added})),
    ):
        given = dict(cast("Any", made).original_resource_dict)
        context = _Context(pipes, run, instance, asset)
        for result in _results(function(**_arguments(function, given, extras["config"], context))):
            report(pipes, asset, result)


def _arguments(
    function: Callable[..., Any], resources: Mapping[str, Any], config: Mapping[str, Any] | None, context: _Context
) -> dict[str, Any]:
    """Return what a function is called with: parameters are told apart by their names, as Dagster does.

    Raises:
        LaunchError: The config does not fit: Dagster would have looked up a value by the name of a variable.
    """
    arguments: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name == "config":
            kind = parameter.annotation if isinstance(parameter.annotation, type) else get_type_hints(function)[name]
            try:
                arguments[name] = kind(**(config or {}))
            except ValidationError as error:
                wrong = "; ".join(f"{'.'.join(map(str, at['loc']))}: {at['msg']}" for at in error.errors())
                raise LaunchError(
                    f"the config does not fit: {wrong}",
                    where=f"{kind.__name__} on the cluster",
                    fix="give values instead of `env: <variable>`, or set `launcher: step`",
                ) from None  # pydantic's own text holds the values
        else:
            arguments[name] = resources.get(name, context)
    return arguments


def _results(returned: object) -> Iterator[object]:
    if isinstance(returned, GeneratorType):
        yield from returned
    elif returned is not None:
        yield returned


class _Context:
    """What a function sees as its context: run, log and partitions of the step that waits for it.

    Args:
        pipes: What the launching side has said.
        run: The Dagster run, as it was launched.
        instance: This process's own; it has the run with its tags.
        asset: The asset.
    """

    def __init__(
        self, pipes: PipesContext, run: dg.DagsterRun, instance: dg.DagsterInstance, asset: dg.AssetsDefinition
    ) -> None:
        self._pipes, self._asset = pipes, asset
        self.run, self.instance = run, instance
        self.run_id, self.job_name = run.run_id, run.job_name
        self.retry_number = pipes.retry_number
        self.has_partition_key = pipes.is_partition_step
        self.log = pipes.log

    @property
    def op_execution_context(self) -> _Context:
        """Dagster has a part of what a function can ask for here."""
        return self

    @property
    def partition_key(self) -> str:
        """The partition of the run."""
        return self._pipes.partition_key

    @property
    def partition_keys(self) -> Sequence[str]:
        """The partitions of a backfill in one run, which Pipes leaves out."""
        first, last = (self.run.tags[f"dagster/asset_partition_range_{end}"] for end in ("start", "end"))
        partitions = self._asset.partitions_def
        if partitions is None:
            raise LaunchError(
                f"a run of partitions of {self._asset.node_def.name}, which has none",
                where="the code that is sent to the cluster",
                fix="send the code that Dagster has loaded: reload the code location, and launch again",
            )
        return partitions.get_partition_keys_in_range(dg.PartitionKeyRange(first, last))

    def get_step_execution_context(self) -> NoReturn:
        """Say that there is no step here.

        Raises:
            dg.DagsterError: Always.
        """
        raise dg.DagsterError("a function on a cluster is no step")

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(
            f"with `launcher: pipes` the context on a cluster has no `{name}`. "
            "Fix: do without it in the asset's function, or set `launcher: step`"
        )


def find_asset(name: str, key: str) -> tuple[dg.Definitions, dg.AssetsDefinition]:
    """Return the definitions and, among them, the asset; the launching side asks too, before anything is paid for.

    Args:
        name: `<module>:<name>` of the `Definitions`.
        key: The asset's key, escaped.

    Raises:
        LaunchError: The module has no such `Definitions`, or they have no such asset.
    """
    module, _, attribute = name.partition(":")
    named = getattr(importlib.import_module(module), attribute, None)
    named = named() if callable(named) else named  # `@dg.definitions` makes a function of it
    if not isinstance(named, dg.Definitions):
        raise LaunchError(
            f"{name} is {type(named).__name__}, not Definitions",
            where="the code that is sent to the cluster",
            fix="define the code location's `Definitions` at the top level of a module in the packages that are sent",
        )
    wanted = dg.AssetKey.from_escaped_user_string(key)
    for asset in named.assets or []:
        if isinstance(asset, dg.AssetsDefinition) and wanted in asset.keys:
            return named, asset
    raise LaunchError(
        f"there is no asset {wanted.to_user_string()} in {name}",
        where="the code that is sent to the cluster",
        fix="make the code location build the same assets there: its models' specs must travel with the code",
    )
