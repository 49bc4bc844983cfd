"""What a look of the automation conditions costs, by how many materializations there are.

What belongs here: histories of 10, 100 and 1,000 loads, each followed by a cut, and one look at each. What does not:
sensors of files and tables (`sensor_tick`), what the conditions decide (tests).

A look is one evaluation of all conditions of a model, as the daemon asks for every 30 s, on an instance in SQLite with
nothing to do; `facts` is the part of it that reads the history. `former` is the part that reads what the last model was
trained on, for a model whose record does not say it: it goes through the records of the sets, as every look did before
records said it. Looks of all sizes take turns; CPU seconds of this process, SQLite included.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import dagster as dg
from dagster._core.loader import LoadingContextForTest

from benchmarks._report import report
from benchmarks._turns import cpu_seconds
from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.automation.facts import current_sets, last_training, registration_is_behind, sets_are_behind
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_shared
from mlops_assets.lineage import (
    DATA_VERSION_IS_GIVEN_TAG,
    DATA_VERSION_TAG,
    DELTA_VERSION,
    LATE_LABELS,
    MLFLOW_RUN_ID,
    RAW_DATA_VERSION,
    RAW_VERSION,
    ROW_COUNT,
    SET_VERSIONS,
    SPLIT_ID,
    TRAINED_ROWS,
)
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.ticking import Ticks

LOADS = (10, 100, 1_000)
ROUNDS = 9
WANTED_SECONDS = 0.05
SPEC = FraudModelSpec(contract=load_contract("creditcard"))
LOOK_RATIO = "look of the conditions: most materializations / fewest"
FACTS_RATIO = "reading the history: most materializations / fewest"
FORMER_RATIO = (
    "what the last model was trained on, with most materializations: looked up among the sets / in its record"
)


class History:
    """An instance in which loads, cuts and a model are on record, and nothing is due."""

    def __init__(self, folder: Path, loads: int) -> None:
        """Record the loads.

        Args:
            folder: Folder of the instance.
            loads: How many there were; the model is as old as the newest.
        """
        folder.mkdir()
        self.instance = dg.DagsterInstance.local_temp(str(folder))
        for number in range(loads):
            self._record(RAW, {DELTA_VERSION: number}, f"{number}-table")
            for table in TABLES.values():
                self._record(table, self._cut(number) | {DELTA_VERSION: number, ROW_COUNT: 100}, f"split{number}")
        # With as much beside it as a real one has.
        other = {f"figure{number}": float(number) for number in range(40)} | {
            "thumbnail": dg.MetadataValue.md("x" * 900)
        }
        pinned = dict.fromkeys(SET_VERSIONS.values(), loads - 1)
        trained = self._cut(loads - 1) | {TRAINED_ROWS: 300, LATE_LABELS: 0}
        self._record(TUNED_MODEL, {MLFLOW_RUN_ID: "run", **pinned, **trained, **other}, "model")
        self._record(REGISTERED_MODEL, {MLFLOW_RUN_ID: "run"}, "model/1")
        self._former = FraudModelSpec(name="former", contract=SPEC.contract)
        # The oldest cut: a model that is as young as the newest one is found at once.
        self._record(TUNED_MODEL, {MLFLOW_RUN_ID: "run", **dict.fromkeys(SET_VERSIONS.values(), 0)}, "", self._former)
        for number in range(min(loads, 500)):
            for table in TABLES.values():
                told = {SPLIT_ID: f"split{number}", RAW_VERSION: number, DELTA_VERSION: number, ROW_COUNT: 100}
                self._record(table, told, "", self._former)
        settings = Settings(home=folder)
        defs = dg.Definitions.merge(build_shared(settings, lambda: None), build_fraud_model(SPEC, settings))
        self._ticks = Ticks(self.instance, defs)

    @staticmethod
    def _cut(number: int) -> dict[str, Any]:
        return {SPLIT_ID: f"split{number}", RAW_VERSION: number, RAW_DATA_VERSION: f"{number}-table"}

    def _record(self, asset: str, metadata: dict[str, Any], version: str, spec: FraudModelSpec = SPEC) -> None:
        tags = {DATA_VERSION_TAG: version, DATA_VERSION_IS_GIVEN_TAG: "true"} if version else {}
        made = dg.AssetMaterialization(key_of(spec, asset), metadata=metadata, tags=tags)
        self.instance.report_runless_asset_event(made)

    def look(self) -> None:
        """Evaluate all conditions.

        Raises:
            RuntimeError: Something is due.
        """
        if asked := self._ticks.look():
            raise RuntimeError(f"the history is not at rest: {asked}")

    def facts(self) -> None:
        """Read what the conditions read in one look: four of them ask whether the sets are behind.

        Raises:
            RuntimeError: Something is due.
        """
        view = LoadingContextForTest(self.instance)
        behind = [sets_are_behind(view, SPEC) for _ in range(4)]
        sets, trained = current_sets(view, SPEC), last_training(view, SPEC)
        is_trained = trained is not None and sets == trained.sets
        if any(behind) or not is_trained or registration_is_behind(view, SPEC):
            raise RuntimeError("the history is not at rest")

    def trained(self) -> None:
        """Read what the last model was trained on, in its own record."""
        last_training(LoadingContextForTest(self.instance), SPEC)

    def former(self) -> None:
        """Look up what a model was trained on whose own record does not say it."""
        found = last_training(LoadingContextForTest(self.instance), self._former)
        if found is None or found.sets is None:
            raise RuntimeError("the sets of the former model are not found")


def measure(loads: Sequence[int], rounds: int, folder: Path) -> dict[str, list[float]]:
    """Return the CPU seconds of each kind of look, one per round: `look N`, `facts N`, `trained N`, `former N`."""
    looks: dict[str, Callable[[], None]] = {}
    for count in loads:
        history = History(folder / str(count), count)
        kinds = {"look": history.look, "facts": history.facts, "trained": history.trained, "former": history.former}
        looks |= {f"{kind} {count}": look for kind, look in kinds.items()}
    return cpu_seconds(looks, rounds)


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--loads", type=int, nargs="+", default=LOADS)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    given = parser.parse_args()
    loads = sorted(given.loads)
    warnings.filterwarnings("ignore", category=dg.BetaWarning)  # one a look, for how Dagster asks itself
    with tempfile.TemporaryDirectory(prefix="looks-") as folder:
        seconds = measure(loads, max(1, given.rounds), Path(folder))

    def times(one: str, other: str) -> list[float]:
        return [a / b for a, b in zip(seconds[one], seconds[other], strict=True)]

    least, most = loads[0], loads[-1]
    report(
        "condition_tick",
        ratios={
            LOOK_RATIO: times(f"look {most}", f"look {least}"),
            FACTS_RATIO: times(f"facts {most}", f"facts {least}"),
            FORMER_RATIO: times(f"former {most}", f"trained {most}"),
        },
        details={"wanted_seconds": WANTED_SECONDS, "seconds": seconds},
    )
    for name, values in seconds.items():
        print(f"{name:14} {median(values) * 1000:8.1f} ms  [{min(values) * 1000:.1f} to {max(values) * 1000:.1f}]")
    print(f"at most {WANTED_SECONDS:g} s with {most:,} loads: {median(seconds[f'look {most}']) <= WANTED_SECONDS}")


if __name__ == "__main__":
    main()
