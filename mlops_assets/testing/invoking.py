"""Invoke assets as a unit test does, directly and with resources of the test's own, and sort what they yield.

What belongs here: running an asset to its end, and loading rows for a test to begin with. What does not: what an asset
should do, rows (`rows`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

import dagster as dg
import pyarrow as pa
import pyarrow.parquet as pq

from mlops_assets.assets.raw_transactions import QUARANTINED, RAW, build_raw_transactions, ingest_config
from mlops_assets.assets.sources import FileTransactions, SourceConfig
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec


@dataclass
class Outcome:
    """What an asset yielded, and how it ended.

    Attributes:
        results: In the order in which they were yielded.
        checks: Results by the check's name.
        observations: In the order in which they were yielded.
        failure: What it raised, if it failed.
    """

    results: list[dg.MaterializeResult[None] | dg.AssetMaterialization] = field(default_factory=list)
    checks: dict[str, dg.AssetCheckResult] = field(default_factory=dict)
    observations: list[dg.AssetObservation] = field(default_factory=list)
    failure: dg.Failure | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """Metadata of the only result, or of the raw table's where there is one."""
        (result,) = self.of(RAW) or self.results
        return plain(result)

    @property
    def quarantine(self) -> dict[str, Any]:
        """Metadata of the quarantine."""
        (result,) = self.of(QUARANTINED)
        return plain(result)

    def of(self, name: str) -> list[dg.MaterializeResult[None] | dg.AssetMaterialization]:
        """Return the results of one asset, by its name without the model's."""
        return [found for found in self.results if found.asset_key is not None and found.asset_key.path[-1] == name]

    @property
    def failed_checks(self) -> list[str]:
        """Names of the checks that did not pass."""
        return [name for name, check in self.checks.items() if not check.passed]

    @property
    def findings(self) -> dict[str, tuple[str, str]]:
        """Verdict and finding of each check of the inputs, as a user reads them; empty if no input was looked at."""
        if not self.observations:
            return {}
        (seen,) = self.observations
        lines = str(seen.metadata["input_findings"].value).splitlines()[2:]
        cells = [line.strip("| ").split(" | ", 2) for line in lines]
        return {name: (verdict, finding.strip("`")) for name, verdict, finding in cells}

    @property
    def failed_inputs(self) -> list[str]:
        """Names of the checks that inputs failed."""
        return [name for name, (verdict, _) in self.findings.items() if verdict == "failed"]

    @property
    def message(self) -> str:
        """What a user reads of the failure.

        Raises:
            AssertionError: The asset did not fail.
        """
        if self.failure is None:
            raise AssertionError("the asset did not fail")
        return str(self.failure.description)


def plain(result: dg.MaterializeResult[None] | dg.AssetMaterialization) -> dict[str, Any]:
    """Return the metadata of a result without Dagster's wrappers."""
    return {
        name: value.value if isinstance(value, dg.MetadataValue) else value
        for name, value in (result.metadata or {}).items()
    }


def collect(invoked: object) -> Outcome:
    """Run an asset to its end.

    Args:
        invoked: What its direct invocation returns, an iterator that Dagster types as an object.
    """
    outcome = Outcome()
    try:
        for event in cast("Iterator[Any]", invoked):
            if isinstance(event, dg.AssetObservation):
                outcome.observations.append(event)
                continue
            if isinstance(event, dg.AssetMaterialization):
                outcome.results.append(event)
                continue
            checks = [event] if isinstance(event, dg.AssetCheckResult) else (event.check_results or [])
            outcome.checks |= {str(check.check_name): check for check in checks}
            if isinstance(event, dg.MaterializeResult):
                outcome.results.append(event)
    except dg.Failure as failure:
        outcome.failure = failure
    return outcome


class OpensLakehouse(Protocol):
    """`LakehouseResource`, or what a test has in its place."""

    def open(self, spec: FraudModelSpec) -> Lakehouse:
        """Return the model's database."""


def load_source(
    lakehouse: OpensLakehouse,
    spec: FraudModelSpec,
    source: SourceConfig,
    *,
    tracking: Tracking | None = None,
    **options: Any,
) -> Outcome:
    """Load a source into a model's raw table, by the model's own asset.

    Args:
        lakehouse: Has the model's database.
        spec: The model.
        source: It takes the place of the model's own source.
        tracking: MLflow, where a revert looks for models that were trained on its batches.
        options: More of the asset's run configuration, such as `replay`.
    """
    asset = build_raw_transactions(spec, source)
    with dg.build_asset_context() as context:
        return collect(
            asset(
                context,
                config=ingest_config(source).model_validate(options),
                lakehouse=lakehouse,
                tracking=tracking,
                loader_cluster=StepLauncherResource(cost_class="loader", active=False),
            )
        )


def load_rows(lakehouse: OpensLakehouse, spec: FraudModelSpec, rows: pa.Table, file: Path) -> Outcome:
    """Load rows that a test begins with: all of them must pass the contract.

    Args:
        lakehouse: Has the model's database.
        spec: The model.
        rows: Its transactions, as in `rows.draw_transactions`.
        file: Where they are written on their way, as Parquet.

    Raises:
        AssertionError: The load failed, a check of it did, or a row was set aside; the text says why.
    """
    pq.write_table(rows, file)
    outcome = load_source(lakehouse, spec, FileTransactions(location=str(file)))
    if outcome.failure is not None:
        raise AssertionError(f"the rows were not loaded: {outcome.message}")
    if outcome.failed_checks:
        found = "; ".join(f"{name}: {outcome.checks[name].description}" for name in outcome.failed_checks)
        raise AssertionError(f"checks of the load failed: {found}")
    if outcome.failed_inputs:
        found = "; ".join(f"{name}: {outcome.findings[name][1]}" for name in outcome.failed_inputs)
        raise AssertionError(f"the rows failed checks: {found}")
    if outcome.metadata["rows_quarantined"]:
        raise AssertionError(f"rows were set aside:\n{outcome.quarantine['preview']}")
    return outcome
