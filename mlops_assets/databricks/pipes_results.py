"""What an asset yields on the cluster with `launcher: pipes`, as messages of Dagster Pipes.

What belongs here: the conversion of Dagster's results and metadata to Pipes. What does not: calling the asset
(`pipes_asset`), the launching side (`pipes`).

Pipes (dagster-pipes 1.13) can't express everything that Dagster can. What it lacks is sent beside a result as a custom
message and restored on the other side: the description of a check result, the tags of a materialization, and metadata
that Pipes has no type for (pool, job, Python artifact, code references, constraints of a whole table). An observation,
or the materialization of another asset, is such a message of its own, and so are added tags of the run. Anything else
(outputs with a value) is rejected, so that nothing is lost silently.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

import dagster as dg
from dagster_pipes import PipesContext

from mlops_assets.dagster_internals import normalize_metadata
from mlops_assets.errors import LaunchError

_NO_VALUE = dg.MaterializeResult[Any]().value
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


def report(pipes: PipesContext, asset: dg.AssetsDefinition, result: object) -> None:
    """Send what an asset has yielded.

    Raises:
        LaunchError: Pipes can't carry it.
    """
    if isinstance(result, dg.AssetCheckResult):
        _report_check(pipes, asset, result)
    elif isinstance(result, dg.MaterializeResult) and result.value is _NO_VALUE:
        key = _key_of(asset, result)
        pipes.report_asset_materialization(
            metadata=cast("Any", external_metadata(result.metadata)),
            data_version=None if result.data_version is None else result.data_version.value,
            asset_key=key,
        )
        _report_rest(pipes, key, None, metadata=beyond_pipes(result.metadata), tags=dict(result.tags or {}))
        for check in result.check_results or []:
            _report_check(pipes, asset, check)
    elif isinstance(result, dg.AssetObservation | dg.AssetMaterialization):
        pipes.report_custom_message({"event": dg.serialize_value(result)})
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
