"""Runs the asset on the cluster with `launcher: pipes`, and reports its results through Pipes.

What belongs here: resources and config of the invocation, and the conversion of Dagster's results to Pipes. What does
not: starting and ending the script (`pipes_main`), the launching side (`pipes`).

The asset is the same object that Dagster has on the launching side, called by direct invocation as in a unit test.
Pipes (dagster-pipes 1.13) can't express everything that Dagster can. What it lacks is sent beside a result as a custom
message and restored on the other side: the description of a check result, the tags of a materialization, and metadata
that Pipes has no type for (pool, job, Python artifact, code references, constraints of a whole table). An observation
is such a message of its own. Anything else (outputs with a value) is rejected, so that nothing is lost silently.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import Any, cast

import dagster as dg
from dagster_pipes import PipesContext

from mlops_assets.dagster_internals import (
    DirectAssetExecutionContext,
    DirectOpExecutionContext,
    NoValueSentinel,
    normalize_metadata,
)
from mlops_assets.errors import LaunchError

_PLAIN: dict[type[dg.MetadataValue[Any]], str] = {
    dg.TextMetadataValue: "text",
    dg.UrlMetadataValue: "url",
    dg.PathMetadataValue: "path",
    dg.NotebookMetadataValue: "notebook",
    dg.JsonMetadataValue: "json",
    dg.MarkdownMetadataValue: "md",
    dg.FloatMetadataValue: "float",
    dg.IntMetadataValue: "int",
    dg.BoolMetadataValue: "bool",
    dg.TimestampMetadataValue: "timestamp",
    dg.DagsterRunMetadataValue: "dagster_run",
    dg.NullMetadataValue: "null",
}


def run_asset(pipes: PipesContext) -> None:
    """Run the asset that the extras name and report what it yields.

    The extras are those of `pipes.PipesRunner`.

    Raises:
        Exception: Whatever the asset raises.
        LaunchError: The extras name something that does not exist, or the asset yields what Pipes can't carry.
    """
    extras = pipes.extras
    definitions, asset = find_asset(extras["definitions"], extras["asset"])
    available = definitions.resources or {}
    resources = {key: available[key] for key in asset.required_resource_keys if key in available}
    config = {key: value for key, value in extras["resources_config"].items() if key in resources}
    with _context(pipes, resources, config) as context:
        for result in cast("Any", asset(context)):
            _report(pipes, asset, result)


def failure_fields(failure: dg.Failure) -> dict[str, Any]:
    """Return the fields that recreate a `dagster.Failure` on the other side."""
    return {
        "description": failure.description,
        "metadata": external_metadata(failure.metadata),
        "allow_retries": failure.allow_retries,
    }


def external_metadata(metadata: Mapping[str, Any] | None) -> dict[str, dict[str, Any]]:
    """Return metadata in the format of Pipes, each value with its type.

    Values without a type in Pipes become the nearest one: a pool or job its name as text, a Python artifact its dotted
    name as text, code references JSON. A table's schema loses the constraints of the table but keeps those of its
    columns. `beyond_pipes` has these values exactly.
    """
    return {
        name: dict(zip(("type", "raw_value"), _external(value), strict=True))
        for name, value in normalize_metadata(dict(metadata or {})).items()
    }


def beyond_pipes(metadata: Mapping[str, Any] | None) -> dict[str, str]:
    """Return the metadata that Pipes can only approximate, in Dagster's own serialization."""
    values = normalize_metadata(dict(metadata or {})).items()
    return {name: dg.serialize_value(cast("Any", value)) for name, value in values if not _is_exact(value)}


def _is_exact(value: dg.MetadataValue[Any]) -> bool:
    if isinstance(value, (dg.TableMetadataValue, dg.TableSchemaMetadataValue)):
        return not value.schema.constraints.other
    return type(value) in _PLAIN or isinstance(value, dg.DagsterAssetMetadataValue | dg.TableColumnLineageMetadataValue)


def _external(value: dg.MetadataValue[Any]) -> tuple[str, Any]:
    kind, raw = type(value), value.value
    if isinstance(value, dg.DagsterAssetMetadataValue):
        return "asset", value.asset_key.to_user_string()
    if isinstance(value, dg.TableMetadataValue):
        raw = {"records": [dict(record.data) for record in value.records], "schema": _columns(value.schema)}
        return "table", raw
    if isinstance(value, dg.TableSchemaMetadataValue):
        return "table_schema", {"columns": _columns(value.schema)}
    if isinstance(value, dg.TableColumnLineageMetadataValue):
        raw = {
            column: [{"asset_key": list(dep.asset_key.path), "column_name": dep.column_name} for dep in sources]
            for column, sources in value.column_lineage.deps_by_column.items()
        }
        return "table_column_lineage", {"deps_by_column": raw}
    return (_PLAIN[kind], raw) if kind in _PLAIN else _nearest(value)


def _nearest(value: dg.MetadataValue[Any]) -> tuple[str, Any]:
    if isinstance(value, dg.PythonArtifactMetadataValue):
        return "text", f"{value.module}.{value.name}"
    if isinstance(value, dg.DagsterJobMetadataValue):
        return "text", value.job_name
    if isinstance(value, dg.CodeReferencesMetadataValue):
        return "json", [dict(vars(reference)) for reference in value.code_references]
    return "text", str(value.value)


def _columns(schema: dg.TableSchema) -> list[dict[str, Any]]:
    return [
        {
            "name": column.name,
            "type": column.type,
            "description": column.description,
            "tags": dict(column.tags or {}),
            "constraints": {
                "nullable": column.constraints.nullable,
                "unique": column.constraints.unique,
                "other": list(column.constraints.other or []),
            },
        }
        for column in schema.columns
    ]


def _report(pipes: PipesContext, asset: dg.AssetsDefinition, result: object) -> None:
    if isinstance(result, dg.AssetCheckResult):
        _report_check(pipes, asset, result)
    elif isinstance(result, dg.MaterializeResult) and result.value is NoValueSentinel:
        key = _key_of(asset, result)
        pipes.report_asset_materialization(
            metadata=cast("Any", external_metadata(result.metadata)),
            data_version=None if result.data_version is None else result.data_version.value,
            asset_key=key,
        )
        _report_rest(pipes, key, None, metadata=beyond_pipes(result.metadata), tags=dict(result.tags or {}))
        for check in result.check_results or []:
            _report_check(pipes, asset, check)
    elif isinstance(result, dg.AssetObservation):
        pipes.report_custom_message({"observation": dg.serialize_value(result)})
    else:
        what = "the value of an asset" if isinstance(result, dg.MaterializeResult) else type(result).__name__
        raise LaunchError(
            f"Dagster Pipes can't carry {what}",
            where=f"asset {asset.node_def.name}",
            fix="yield only checks, observations and MaterializeResult without a value, or set `launcher: step`",
        )


def _report_check(pipes: PipesContext, asset: dg.AssetsDefinition, result: dg.AssetCheckResult) -> None:
    # As in Dagster, what a result leaves out is taken from the only check that matches.
    (spec,) = _only(
        [
            spec
            for spec in asset.check_specs
            if result.check_name in (None, spec.name) and result.asset_key in (None, spec.asset_key)
        ],
        f"check {result.check_name}",
        asset,
    )
    key = spec.asset_key.to_escaped_user_string()
    pipes.report_asset_check(
        check_name=spec.name,
        passed=result.passed,
        severity=result.severity.value,
        metadata=cast("Any", external_metadata(result.metadata)),
        asset_key=key,
    )
    description = {} if result.description is None else {"description": result.description}
    _report_rest(pipes, key, spec.name, metadata=beyond_pipes(result.metadata), **description)


def _report_rest(pipes: PipesContext, asset_key: str, check: str | None, **rest: Any) -> None:
    """Send the part of a result that Pipes can't express; `pipes_client.PipesLaunch.results` restores it."""
    if any(rest.values()):
        pipes.report_custom_message({"asset_key": asset_key, "check": check, **rest})


def _key_of(asset: dg.AssetsDefinition, result: dg.MaterializeResult[Any]) -> str:
    """Return the asset of a result; it may be left out if there is only one."""
    if result.asset_key is None and len(asset.keys) != 1:
        raise LaunchError(
            f"a result does not say which of {len(asset.keys)} assets it is for",
            where=f"asset {asset.node_def.name}",
            fix="set `asset_key`",
        )
    return (result.asset_key or asset.key).to_escaped_user_string()


def _only(specs: Sequence[dg.AssetCheckSpec], what: str, asset: dg.AssetsDefinition) -> Sequence[dg.AssetCheckSpec]:
    if len(specs) != 1:
        raise LaunchError(
            f"{what}: {len(specs)} declared checks match",
            where=f"asset {asset.node_def.name}",
            fix="set `asset_key` and `check_name`",
        )
    return specs


class _OpContext(DirectOpExecutionContext):
    """The context of a direct invocation, with run and log of the launching Dagster run."""

    def __init__(self, pipes: PipesContext, resources: Mapping[str, Any], resources_config: Mapping[str, Any]) -> None:
        self._pipes = pipes
        super().__init__(
            op_config=pipes.extras["config"],
            resources_dict=resources,
            resources_config=resources_config,
            instance=None,
            partition_key=pipes.partition_key if pipes.is_partition_step else None,
            partition_key_range=None,
            mapping_key=None,
            run_tags=pipes.extras["run_tags"],
            event_loop=None,
        )
        self._log = dg.DagsterLogManager.create(loggers=[], handlers=[_ToPipes(pipes)])

    @property
    def run_id(self) -> str:
        return self._pipes.run_id

    @property
    def job_name(self) -> str:
        return str(self._pipes.job_name)

    @property
    def retry_number(self) -> int:
        return self._pipes.retry_number


class _ToPipes(logging.Handler):
    """Sends records of `context.log` to Dagster's event log."""

    def __init__(self, pipes: PipesContext) -> None:
        super().__init__()
        self._pipes = pipes

    def emit(self, record: logging.LogRecord) -> None:
        # The log manager has prefixed the message with run and step; the launching side will do so again.
        meta: dict[str, Any] = getattr(record, "dagster_meta", {})
        self._pipes.log.log(record.levelno, "%s", meta.get("orig_message", record.getMessage()))


def _context(
    pipes: PipesContext, resources: Mapping[str, Any], resources_config: Mapping[str, Any]
) -> DirectAssetExecutionContext:
    return DirectAssetExecutionContext(_OpContext(pipes, resources, resources_config))


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
