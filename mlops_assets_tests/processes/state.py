"""The contents of a home, read without the platform: Delta's log through delta-rs, MLflow through its client.

What belongs here: reading. What does not: judging it.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable
from mlflow import MlflowClient
from mlflow.entities import Run, ViewType

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT
from mlops_assets.lineage import PARENT_TAG, RUN_NAME_TAG

DATABASE = "creditcard_files"
MODEL = f"fraud_{DATABASE}"
# What differs between two searches that are otherwise the same.
_CLOCKS = ("search_seconds", "trial_seconds")
_PAST = ("trials_resumed",)


@dataclass(frozen=True)
class Table:
    """A Delta table on disk."""

    folder: Path

    @property
    def exists(self) -> bool:
        """Whether it has a version that a reader sees."""
        exists: bool = DeltaTable.is_deltatable(str(self.folder))
        return exists

    @property
    def version(self) -> int:
        """Newest version."""
        newest: int = DeltaTable(self.folder).version()
        return newest

    def rows(self) -> pa.Table:
        """Return all rows in an order that does not depend on files, without the time of loading."""
        table = DeltaTable(self.folder).to_pyarrow_table().drop_columns([INGESTED_AT])
        return table.sort_by([(BATCH_ID, "ascending"), ("_row_number", "ascending")]).combine_chunks()

    def rows_of_batches(self) -> list[int]:
        """Return the number of rows of each input, sorted."""
        return sorted(Counter(self.rows().column(BATCH_ID).to_pylist()).values())

    def data_files(self) -> list[Path]:
        """Return the data files in the folder, committed or not."""
        return sorted(self.folder.glob("*.parquet"))


def table(home: Path, name: str) -> Table:
    """Return a table of a home."""
    return Table(home / "lakehouse" / DATABASE / name)


def staged(home: Path) -> list[Path]:
    """Return the files in the staging folders."""
    return [path for path in (home / "lakehouse" / DATABASE / "_staging").rglob("*") if path.is_file()]


def embedded_store(home: Path) -> str:
    """Return the URI of a home's own MLflow store."""
    return f"sqlite:///{home / 'mlflow' / 'mlflow.db'}"


@dataclass(frozen=True)
class Tracked:
    """The runs and versions of an MLflow store."""

    uri: str

    @property
    def _client(self) -> MlflowClient:
        return MlflowClient(self.uri, self.uri)

    def runs(self) -> list[Run]:
        """Return all runs, oldest first."""
        experiments = [each.experiment_id for each in self._client.search_experiments(view_type=ViewType.ALL)]
        return list(self._client.search_runs(experiments, order_by=["attributes.start_time ASC"]))

    def parents(self) -> list[Run]:
        """Return the searches, oldest first."""
        return [run for run in self.runs() if PARENT_TAG not in run.data.tags]

    def children(self, parent: Run) -> list[Run]:
        """Return the trials of a search, by name."""
        trials = [run for run in self.runs() if run.data.tags.get(PARENT_TAG) == parent.info.run_id]
        return sorted(trials, key=lambda run: run.data.tags[RUN_NAME_TAG])

    def statuses(self) -> Counter[str]:
        """Return the number of runs of all kinds by status."""
        return Counter(run.info.status for run in self.runs())

    def results(self, parent: Run) -> dict[str, Any]:
        """Return the results of a search, without what depends on the clock or on an earlier search."""
        return {
            "params": {name: value for name, value in parent.data.params.items() if name not in _PAST},
            "metrics": _without_clocks(parent.data.metrics),
            "trials": [
                (child.data.tags[RUN_NAME_TAG], child.data.params, _without_clocks(child.data.metrics))
                for child in self.children(parent)
            ],
        }

    def versions(self) -> dict[int, set[str]]:
        """Return the aliases of each version of the registered model."""
        listed = self._client.search_model_versions(f"name = '{MODEL}'")
        aliases: dict[int, set[str]] = {int(version.version): set() for version in listed}
        if aliases:
            for alias, number in self._client.get_registered_model(MODEL).aliases.items():
                aliases[int(number)].add(alias)
        return aliases


def _without_clocks(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if name not in (*_CLOCKS, *_PAST)}
