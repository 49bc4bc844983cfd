"""Invoke assets the way a unit test of a user would: directly, with resources of their own.

What belongs here: calling an asset and sorting what it yields. What does not: what an asset should do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pyarrow as pa
import pyarrow.csv as pa_csv

from mlops_assets.assets.label_sources import LabelConfig, LabelFiles
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW, build_raw_transactions, ingest_config
from mlops_assets.assets.registered_model import GateConfig, build_registered_model
from mlops_assets.assets.sources import FileTransactions, SourceConfig, SyntheticTransactions
from mlops_assets.assets.splits import SplitConfig, build_splits
from mlops_assets.assets.transaction_labels import build_transaction_labels
from mlops_assets.assets.tuned_model import build_tuned_model
from mlops_assets.assets.tuning_config import Preset, RangeConfig, TunedModelConfig
from mlops_assets.data.contract.contract import Contract
from mlops_assets.data.sources.synthetic import generate
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

HERE = StepLauncherResource(cost_class="loader", active=False)
SMALL = SyntheticTransactions(rows=4_000, days=6, fraud_rate=0.03, seed=3)
QUICK_SPACE = {
    "max_depth": RangeConfig(low=2, high=3),
    "n_estimators": RangeConfig(low=5, high=12),
    "learning_rate": RangeConfig(low=0.1, high=0.5),
}
# Without the production refit, which costs as much as all three trials.
QUICK = TunedModelConfig(
    space_preset=Preset.seed,
    space=QUICK_SPACE,
    trials=3,
    parallelism=1,
    alerts_per_day=20,
    replicates=50,
    production_refit=False,
)


@dataclass
class Outcome:
    """What an asset yielded, and how it ended."""

    results: list[dg.MaterializeResult[None]] = field(default_factory=list)
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

    def of(self, name: str) -> list[dg.MaterializeResult[None]]:
        """Return the results of one asset."""
        return [found for found in self.results if found.asset_key == dg.AssetKey(name)]

    @property
    def failed_checks(self) -> list[str]:
        return [name for name, check in self.checks.items() if not check.passed]

    @property
    def findings(self) -> dict[str, tuple[str, str]]:
        """Verdict and finding of each check of the inputs, as a user reads them; empty if no input was looked at."""
        if not self.observations:
            return {}
        (seen,) = self.observations
        lines = str(seen.metadata["input_findings"].value).splitlines()[2:]
        cells = [line.strip("| ").split(" | ", 2) for line in lines]
        return {name: (verdict, finding) for name, verdict, finding in cells}

    @property
    def failed_inputs(self) -> list[str]:
        """Names of the checks that inputs failed."""
        return [name for name, (verdict, _) in self.findings.items() if verdict == "failed"]

    @property
    def message(self) -> str:
        """What a user reads of the failure."""
        assert self.failure is not None, "the asset did not fail"
        return str(self.failure.description)


def plain(result: dg.MaterializeResult[None]) -> dict[str, Any]:
    return {
        name: value.value if isinstance(value, dg.MetadataValue) else value
        for name, value in (result.metadata or {}).items()
    }


def collect(invoked: object) -> Outcome:
    """Run an asset to its end; what a direct invocation returns is typed as an object."""
    outcome = Outcome()
    try:
        for event in cast("Iterator[Any]", invoked):
            if isinstance(event, dg.AssetObservation):
                outcome.observations.append(event)
                continue
            checks = [event] if isinstance(event, dg.AssetCheckResult) else (event.check_results or [])
            outcome.checks |= {str(check.check_name): check for check in checks}
            if isinstance(event, dg.MaterializeResult):
                outcome.results.append(event)
    except dg.Failure as failure:
        outcome.failure = failure
    return outcome


@dataclass(frozen=True)
class Databases:
    """Stands in for `LakehouseResource`: every model's database is this one."""

    lakehouse: Lakehouse

    def open(self, spec: FraudModelSpec) -> Lakehouse:
        del spec
        return self.lakehouse


def spec_of(contract: Contract | str = "creditcard", **more: Any) -> FraudModelSpec:
    """Return the model without a name that the settings of a test describe."""
    return FraudModelSpec.model_validate({"contract": contract, "database": "creditcard_synthetic", **more})


def load(
    lakehouse: Lakehouse,
    source: SourceConfig = SMALL,
    contract: Contract | str = "creditcard",
    *,
    replay: bool = False,
    labels_only: bool = False,
) -> Outcome:
    asset = build_raw_transactions(spec_of(contract), source)
    form = ingest_config(source)
    with dg.build_asset_context() as context:
        return collect(
            asset(
                context,
                config=form.model_validate({"replay": replay, "labels_only": labels_only}),
                lakehouse=Databases(lakehouse),
                loader_cluster=HERE,
            )
        )


def replay(lakehouse: Lakehouse, contract: Contract | str = "creditcard") -> Outcome:
    """Try what is in quarantine again."""
    return load(lakehouse, contract=contract, replay=True)


def bring_labels(lakehouse: Lakehouse, labels: Path | str | LabelConfig, contract: Contract | str) -> Outcome:
    """Load label files, or other labels."""
    config = labels if isinstance(labels, LabelConfig) else LabelFiles(location=str(labels))
    asset = build_transaction_labels(spec_of(contract), config)
    with dg.build_asset_context() as context:
        return collect(
            asset(
                context,
                config=config,
                lakehouse=Databases(lakehouse),
                loader_cluster=HERE,
            )
        )


def split(lakehouse: Lakehouse, config: SplitConfig | None = None, contract: Contract | str = "creditcard") -> Outcome:
    with dg.build_asset_context() as context:
        return collect(
            build_splits(spec_of(contract))(
                context, config=config or SplitConfig(), lakehouse=Databases(lakehouse), loader_cluster=HERE
            )
        )


def tune(
    lakehouse: Lakehouse,
    tracking: Tracking,
    config: TunedModelConfig = QUICK,
    contract: Contract | str = "creditcard",
) -> Outcome:
    with dg.build_asset_context() as context:
        return collect(
            build_tuned_model(spec_of(contract))(
                context, config=config, lakehouse=Databases(lakehouse), tracking=tracking, trials_cluster=HERE
            )
        )


def register(
    lakehouse: Lakehouse,
    tracking: Tracking,
    config: GateConfig | None = None,
    *,
    model: str = "fraud_creditcard_synthetic",
) -> Outcome:
    with dg.build_asset_context() as context:
        return collect(
            build_registered_model(spec_of(registered_model=model))(
                context,
                config=config or GateConfig(min_lift=2.0),
                lakehouse=Databases(lakehouse),
                tracking=tracking,
                loader_cluster=HERE,
            )
        )


def transactions(rows: int = 600, *, seed: int = 5, fraud_rate: float = 0.05, days: float = 3) -> pa.Table:
    """Return a small table that follows the creditcard contract."""
    return generate(rows=rows, days=days, fraud_rate=fraud_rate, seed=seed)


def write_csv(table: pa.Table, path: Path) -> FileTransactions:
    path.parent.mkdir(parents=True, exist_ok=True)
    pa_csv.write_csv(table, path)
    return FileTransactions(location=str(path))


def replaced(table: pa.Table, column: str, values: list[Any]) -> pa.Table:
    """Return the table with the first values of a column replaced; the column becomes text."""
    old = [str(value) for value in table.column(column).to_pylist()]
    new = [*values, *old[len(values) :]]
    position = table.column_names.index(column)
    return table.set_column(position, column, pa.array(new, pa.string()))
