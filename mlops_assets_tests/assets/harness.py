"""Invoke each of the platform's assets, with a small configuration.

What belongs here: calling one, and small inputs for it. What does not: sorting what it yields (`mlops_assets.testing`),
what it should do.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pyarrow as pa
import pyarrow.csv as pa_csv

from mlops_assets.assets.label_sources import LabelConfig, LabelFiles
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
from mlops_assets.testing.invoking import Outcome, collect, load_source

HERE = StepLauncherResource(cost_class="loader", active=False)
SMALL = SyntheticTransactions(rows=4_000, days=6, fraud_rate=0.03, seed=3)
QUICK_SPACE = {
    "max_depth": RangeConfig(low=2, high=3),
    "n_estimators": RangeConfig(low=5, high=12),
    "learning_rate": RangeConfig(low=0.1, high=0.5),
}
# Without the production refit, which costs as much as all three trials, and with the scores of a plain fit.
QUICK = TunedModelConfig(
    space_preset=Preset.seed,
    space=QUICK_SPACE,
    trials=3,
    parallelism=1,
    alerts_per_day=20,
    replicates=50,
    production_refit=False,
    calibrate=False,
)


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
    return load_source(Databases(lakehouse), spec_of(contract), source, replay=replay, labels_only=labels_only)


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
    contract: Contract | str = "creditcard",
) -> Outcome:
    with dg.build_asset_context() as context:
        return collect(
            build_registered_model(spec_of(contract, registered_model=model))(
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
