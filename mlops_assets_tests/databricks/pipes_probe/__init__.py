"""Assets that travel to the loopback workspace, to see what arrives of them through Pipes.

Annotations are not postponed: Dagster looks at those of contexts and configs when an asset is defined.
"""

import os
import sys
import time
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

Results = Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult | dg.AssetObservation | dg.AssetMaterialization]


class Mood(Enum):
    """An enumeration in a config: run config has its name, the asset its member."""

    CALM = "calm"
    CROSS = "cross"


class Inner(dg.Config):
    """Config within config."""

    numbers: list[int] = Field(default_factory=list)


class ProbeConfig(dg.Config):
    """What to do."""

    behaviour: str = "report"
    mood: Mood = Mood.CALM
    inner: Inner = Inner()
    gate: str = ""


class Greeting(dg.ConfigurableResource[Any]):
    """A resource whose config can be edited for a run."""

    text: str = "hello"
    place: str


CHECKS = [
    dg.AssetCheckSpec("small", asset="measured", blocking=True),
    dg.AssetCheckSpec("pretty", asset="measured"),
]


@dg.asset(check_specs=CHECKS)
def measured(
    context: dg.AssetExecutionContext, config: ProbeConfig, greeting: Greeting, cluster: dg.ResourceParam[Any]
) -> Results:
    """Report all kinds of things."""
    if cluster is not None:
        yield from cluster.run(context)
        return
    context.log.info(f"{config.behaviour}: begun")
    context.instance.add_run_tags(context.op_execution_context.run_id, {"behaviour": config.behaviour})
    if config.behaviour == "wait":
        while not Path(config.gate).exists():
            time.sleep(0.1)
    elif config.behaviour == "raise":
        print("a word on stdout")  # noqa: T201 - forwarding it is what is tested
        print("the last word on stderr", file=sys.stderr)  # noqa: T201 - the same
        raise LookupError("no such number: 17")
    elif config.behaviour == "refuse":
        yield dg.AssetObservation(
            "measured", description="seen", partition="p", metadata={"pool": dg.MetadataValue.pool("big")}
        )
        yield dg.AssetCheckResult(check_name="small", passed=False, description="far too large", metadata={"size": 17})
        raise dg.Failure("refused: far too large", metadata={"size": 17}, allow_retries=False)
    elif config.behaviour == "die":
        os._exit(3)
    elif config.behaviour == "ask":
        context.log.info(context.asset_key.to_user_string())
    elif config.behaviour == "observe":
        yield dg.ObserveResult(metadata={"size": 17})  # type: ignore[misc] # what must not be yielded
    elif config.behaviour == "secret":
        yield dg.MaterializeResult(metadata={"secret_length": len(os.environ["PROBE_SECRET"])})
        yield dg.AssetCheckResult(check_name="small", passed=True)
        yield dg.AssetCheckResult(check_name="pretty", passed=True)
        return
    context.log.warning("100 % of it")
    said: dict[str, Any] = {
        "mood": config.mood.name,
        "numbers": dg.MetadataValue.json(config.inner.numbers),
        "greeting": f"{greeting.text} {greeting.place}",
    }
    said["dagster_run_id"] = context.op_execution_context.run_id
    said["is_its_run"] = context.run.run_id == said["dagster_run_id"]
    yield dg.MaterializeResult(metadata={**said, **every_type()}, tags={"colour": "blue"})
    small = config.behaviour != "too large"
    yield dg.AssetCheckResult(check_name="small", passed=small, description="17 of 20", metadata={"size": 17})
    yield dg.AssetCheckResult(
        check_name="pretty",
        passed=False,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"why": dg.MetadataValue.md("*"), "pool": dg.MetadataValue.pool("big")},
    )


def every_type() -> dict[str, Any]:
    """Metadata of each type that Dagster has, and raw values."""
    schema = dg.TableSchema(
        columns=[
            dg.TableColumn(
                "id",
                "bigint",
                description="the key",
                constraints=dg.TableColumnConstraints(nullable=False, unique=True, other=["positive"]),
                tags={"role": "key"},
            ),
            dg.TableColumn("name"),
        ]
    )
    return {
        "raw_text": "x" * 3,
        "raw_int": 3,
        "raw_float": 0.1,
        "raw_bool": True,
        "raw_none": None,
        "raw_list": [1, "a"],
        "nan": float("nan"),
        "text": dg.MetadataValue.text("1"),
        "url": dg.MetadataValue.url("https://example.com"),
        "path": dg.MetadataValue.path("/somewhere"),
        "notebook": dg.MetadataValue.notebook("/somewhere.ipynb"),
        "json": dg.MetadataValue.json({"a": [1, None, {"b": "ä"}]}),
        "md": dg.MetadataValue.md("| a |\n|---|\n" + "| 1 |\n" * 200_000),
        "time": dg.MetadataValue.timestamp(1.5e9),
        "dagster/column_schema": schema,
        "table": dg.MetadataValue.table([dg.TableRecord({"id": 1, "name": "one"})], schema),
        "run": dg.MetadataValue.dagster_run("1234"),
        "asset": dg.MetadataValue.asset(dg.AssetKey(["a", "b"])),
        "lineage": dg.MetadataValue.column_lineage(
            dg.TableColumnLineage({"id": [dg.TableColumnDep(dg.AssetKey(["a", "b"]), "key")]})
        ),
        "constrained": dg.TableSchema([dg.TableColumn("id")], constraints=dg.TableConstraints(other=["id is odd"])),
        "pool": dg.MetadataValue.pool("big"),
        "job": dg.MetadataValue.job("main", "here"),
        "artifact": dg.MetadataValue.python_artifact(Path),
        "code": dg.CodeReferencesMetadataValue(
            code_references=[dg.LocalFileCodeReference(file_path="/a.py", line_number=3)]
        ),
    }


@dg.asset(deps=[measured])
def after() -> None:
    """Run where Dagster is, after `measured`."""


@dg.multi_asset(
    specs=[dg.AssetSpec("left"), dg.AssetSpec("right")], check_specs=[dg.AssetCheckSpec("even", asset="right")]
)
def pair(context: dg.AssetExecutionContext, cluster: dg.ResourceParam[Any]) -> Results:
    """Two assets of one function."""
    if cluster is not None:
        yield from cluster.run(context)
        return
    for name in ("left", "right"):
        yield dg.MaterializeResult(asset_key=name, metadata={"name": name}, data_version=dg.DataVersion(f"{name} 1"))
    yield dg.AssetCheckResult(passed=True)


@dg.asset(partitions_def=dg.DailyPartitionsDefinition("2026-05-01"), output_required=False)
def daily(context: dg.AssetExecutionContext, cluster: dg.ResourceParam[Any]) -> Results:
    """Many days in one run, each an event of its own, and one of another asset."""
    if cluster is not None:
        yield from cluster.run(context)
        return
    days = [context.partition_key] if context.has_partition_key else context.partition_keys
    for day in days:
        yield dg.AssetMaterialization("daily", partition=day, metadata={"day": day})
    yield dg.AssetMaterialization("left", metadata={"days": len(days)})


defs = dg.Definitions(
    [measured, after, pair, daily],
    resources={"greeting": Greeting(place=os.environ.get("PROBE_PLACE", "")), "cluster": None},
)
