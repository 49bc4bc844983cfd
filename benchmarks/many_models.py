"""How much longer does a code location take to load with 20 models than with one?

What belongs here: loading in new processes, as a code server does, and the ratio. What does not: what a model consists
of (`mlops_assets.fraud_model`).

Measured is the wall time from the start of the interpreter's imports until the repository is there. Dagster makes the
snapshots of jobs when they are asked for; they are not part of it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import dagster as dg

from benchmarks._report import report
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_shared
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec

MODELS = 20
WANTED = 2.0
RATIO = "time to load a code location: many models / one"


def load(models: int) -> dg.RepositoryDefinition:
    """Return the repository of a code location with so many models."""
    settings, contract = Settings(), load_contract("creditcard")
    specs = [FraudModelSpec(name=f"model{n}", contract=contract, source=f"/landing/{n}") for n in range(models)]
    definitions = dg.Definitions.merge(
        build_shared(settings, lambda: None), *(build_fraud_model(spec, settings) for spec in specs)
    )
    return definitions.get_repository_def()


def seconds(models: int) -> float:
    """Return the wall time of loading in a new process."""
    started = time.perf_counter()
    code = f"from benchmarks.many_models import load; load({models})"
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=int, default=MODELS, help="models of the larger code location")
    parser.add_argument("--rounds", type=int, default=5, help="loads of each, in alternation")
    given = parser.parse_args()
    rounds = [(seconds(1), seconds(given.models)) for _ in range(given.rounds)]
    ratios = [many / one for one, many in rounds]
    report(
        "many_models",
        ratios={RATIO: ratios},
        details={"models": given.models, "seconds": {"one": [r[0] for r in rounds], "many": [r[1] for r in rounds]}},
    )
    print(f"wanted: under {WANTED:g}")


if __name__ == "__main__":
    main()
