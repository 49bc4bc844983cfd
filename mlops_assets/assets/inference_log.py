"""The log of predictions as an asset: what servers captured, once in a Delta table, and scores that can be had again.

What belongs here: the asset's spec, its config, and how a load's report is shown. What does not: reading what was
captured (`serving/log`), comparing scores (`serving/replay`), when it runs (`automation/predictions`).
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.shell import Results, asset_shell
from mlops_assets.lineage import DELTA_VERSION, ROW_COUNT
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import INFERENCE_LOG, FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.serving.log.table import Loaded
    from mlops_assets.serving.replay import Replayed

REPLAYED, CAUGHT_UP = "replayed_scores", "caught_up"
_CHECKS = {
    REPLAYED: "A sample of the log, scored again by the versions that it names, gets the same bits.",
    CAUGHT_UP: "Nothing that was captured when the load began is left to load.",
}


class InferenceLogConfig(dg.Config):
    """How much is read and compared."""

    most: int = Field(default=100_000, ge=1, description="Messages of a Kafka topic that one run reads at most.")
    sample: int = Field(default=500, ge=1, description="Rows of the log that are scored again.")


def build_inference_log(
    spec: FraudModelSpec, *, table: str, login: Callable[[], Mapping[str, str]], bundles: Path
) -> dg.AssetsDefinition:
    """Return the asset of a model that names where its predictions are captured.

    Args:
        spec: The model.
        table: Folder or URL of the log's Delta table.
        login: Returns librdkafka's settings for security, once a run needs them.
        bundles: The server's folder: a version that it has fetched is not fetched again.
    """
    key = key_of(spec, INFERENCE_LOG)

    @dg.asset(
        key=key,
        deps=[key_of(spec, REGISTERED_MODEL)],
        group_name=spec.group,
        tags=stage_tag("serving"),
        kinds={"deltalake"},
        owners=list(spec.owners),
        description=(
            "Delta table of predictions: a row for each scored row that servers captured, once. Runs without Spark."
        ),
        check_specs=[dg.AssetCheckSpec(name, asset=key, description=text) for name, text in _CHECKS.items()],
    )
    @asset_shell(spec)
    def inference_log(context: dg.AssetExecutionContext, config: InferenceLogConfig, tracking: Tracking) -> Results:
        """Load what is new, then score a sample of the table again."""
        from mlops_assets.serving.log.origin import LogOrigin
        from mlops_assets.serving.log.table import LogTable

        origin, registered = LogOrigin.parse(spec.inference_log or ""), tracking.model(spec.registered_model)
        loaded = origin.load(table, spec.contract, registered, login(), config.most)
        context.log.info(f"{loaded.rows:,} rows added, {loaded.doubled:,} known, {loaded.unreadable:,} unreadable")
        there = LogTable(table).there
        if there is None:
            raise dg.Failure(
                "nothing was captured yet. Fix: let a server write to the model's `inference_log`, then run again",
                allow_retries=False,
            )
        yield dg.MaterializeResult(metadata=_metadata(loaded, table, there.version(), there.count()))
        yield dg.AssetCheckResult(
            passed=not loaded.lag,
            asset_key=key,
            check_name=CAUGHT_UP,
            severity=dg.AssetCheckSeverity.WARN,
            description="nothing is left" if not loaded.lag else f"{loaded.lag:,} messages are left for the next run",
        )
        yield replayed(tracking, there, config.sample)

    def replayed(tracking: Tracking, there: Any, sample: int) -> dg.AssetCheckResult:
        from mlops_assets.serving.bundle import load_bundle
        from mlops_assets.serving.following import fetch
        from mlops_assets.serving.from_registry import Source, version_of
        from mlops_assets.serving.replay import replay
        from mlops_assets.serving.watching import VERSIONS_FOLDER

        source = Source(tracking.connect(spec.experiment), tracking.model(spec.registered_model), spec.contract)
        folder = bundles / source.registered / VERSIONS_FOLDER
        report = replay(
            there,
            spec.contract,
            lambda number: load_bundle(fetch(source, version_of(source, number), folder), spec.contract.features),
            sample,
        )
        return dg.AssetCheckResult(
            passed=report.passed,
            asset_key=key,
            check_name=REPLAYED,
            description=_verdict(report),
            metadata={"rows": report.rows, "skipped": report.skipped, "versions": list(report.versions)},
        )

    return inference_log


def _metadata(loaded: "Loaded", table: str, version: int, rows: int) -> dict[str, Any]:
    from mlops_assets.data.sources.locations import shown

    return {
        "table": shown(table),
        DELTA_VERSION: version,
        ROW_COUNT: rows,
        "rows_added": loaded.rows,
        "rows_already_known": loaded.doubled,
        "unreadable": loaded.unreadable,
        "lag": loaded.lag,
    }


def _verdict(report: "Replayed") -> str:
    if report.broken:
        named = "; ".join(f"version {number}: {why}" for number, why in report.broken.items())
        return f"versions that scored can't be loaded any more: {named}"
    if report.other_scores:
        some = ", ".join(report.differing)
        return f"{report.other_scores:,} of {report.rows:,} rows have other scores now, such as requests {some}"
    return f"{report.rows:,} rows have the same bits again ({report.skipped:,} could not be scored again)"
