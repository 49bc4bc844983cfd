"""Two models in one code server and daemon, as `dagster dev` has them: nothing of one holds up or touches the other.

Files arrive for both, one of them is bad, a run is killed, and at last one of the models is retired.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pyarrow.csv as pa_csv
import pytest
from deltalake import DeltaTable

from mlops_assets.data.contract.contract import Contract
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.registry.retirement import retire
from mlops_assets.registry.versions import by_alias
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.settings import Settings
from mlops_assets.testing.rows import draw_transactions
from mlops_assets_tests.assets.harness import replaced, transactions
from mlops_assets_tests.browser.dagster_dev import left_behind
from mlops_assets_tests.soak.installation import Installation
from mlops_assets_tests.soak.two_models import CONTRACTS, specs_in

LOCATION = "mlops_assets_tests.soak.two_models"
_LIMIT_SECONDS, _LOOK_SECONDS, _QUIET_SECONDS = 900.0, 1.0, 100.0
_ENDED = (dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED)
MODEL = "mlops_assets/model"


@pytest.fixture
def there(tmp_path: Path, shared_home: Path) -> Iterator[Installation]:
    ensure_delta_jars(shared_home / "jars")
    home = tmp_path / "home"
    home.mkdir()
    made = Installation.of(home, shared_home / "jars", LOCATION, {"MLOPS_AUTOMATION": "on"})
    for name in CONTRACTS:
        (made.landing / name).mkdir()
    yield made
    made.close()
    assert left_behind(home) == []


def wait_until(there: Installation, what: str, holds: Callable[[], bool]) -> None:
    until = time.monotonic() + _LIMIT_SECONDS
    while not holds():
        runs = [(run.job_name, run.status.value, run.tags.get(MODEL)) for run in there.runs()]
        assert time.monotonic() < until, f"not within {_LIMIT_SECONDS:.0f} s: {what}\n{runs}\n{there.log_of('daemon')}"
        time.sleep(_LOOK_SECONDS)


def version_of(there: Installation, name: str, asset: str) -> dict[str, object]:
    """Return the metadata of an asset's newest materialization."""
    event = there.instance.get_latest_materialization_event(dg.AssetKey([name, asset]))
    if event is None or event.asset_materialization is None:
        return {}
    return {key: value.value for key, value in event.asset_materialization.metadata.items()}


def follows(there: Installation, name: str) -> bool:
    """Return whether sets and model of a model follow its raw table, and nothing of it is in progress."""
    raw, cut = version_of(there, name, "raw_transactions"), version_of(there, name, "test_set")
    tuned, registered = (version_of(there, name, asset) for asset in ("tuned_model", "registered_model"))
    return (
        bool(raw and cut and tuned)
        and cut["raw_version"] == raw["delta_version"]
        and registered.get("mlflow_run_id") == tuned["mlflow_run_id"]
        and all(run.status in _ENDED for run in there.runs() if run.tags.get(MODEL) == name)
    )


def rows(there: Installation, name: str, table: str = "raw_transactions") -> int:
    """Count without the platform."""
    return int(DeltaTable(there.home / "lakehouse" / f"{name}_files" / table).to_pyarrow_table().num_rows)


@pytest.mark.proof  # about fifteen runs with a JVM each
@pytest.mark.timeout(3_000)
def test_nothing_of_one_model_holds_up_or_touches_the_other(there: Installation, handbook: Contract):
    landing = there.landing
    pa_csv.write_csv(transactions(1_500, fraud_rate=0.1, days=6), landing / "cards" / "a.csv")
    bad = replaced(transactions(300, seed=2), "amount", ["12,50"] * 50)
    pa_csv.write_csv(bad, landing / "cards" / "bad.csv")
    pa_csv.write_csv(draw_transactions(handbook, 1_500, days=40, fraud_rate=0.1), landing / "transfers" / "a.csv")
    there.start_code_server()
    there.start_daemon()

    # The first run of transfers is killed while it loads.
    def killed() -> bool:
        going = there.runs(dg.DagsterRunStatus.STARTED)
        return any(there.kill_run(run) for run in going if run.job_name == "transfers__load_data")

    wait_until(there, "a load of transfers is killed", killed)
    wait_until(there, "both models are registered", lambda: all(follows(there, name) for name in CONTRACTS))

    specs = specs_in(landing)
    tracking = build_resources(Settings(home=there.home))["tracking"]
    assert (rows(there, "cards"), rows(there, "transfers")) == (1_500, 1_500)
    for name, spec in specs.items():
        store = tracking.connect(spec.experiment)
        champion = by_alias(store, spec.registered_model, "champion")
        assert champion is not None
        (search,) = store.client.search_runs([store.experiment_id], "tags.`mlops_assets.stage` = 'search'")
        assert (search.info.run_id, search.data.tags["mlops_assets.database"]) == (champion.run_id, spec.database)
        (trained,) = [run for run in there.runs() if run.tags.get("mlops_assets/mlflow_run") == champion.run_id][-1:]
        assert trained.tags[MODEL] == name
    by_model = {name: [run for run in there.runs() if run.tags.get(MODEL) == name] for name in CONTRACTS}
    assert sum(map(len, by_model.values())) == len(there.runs()), "each run says whose it is"
    failed = {
        name: {run.job_name for run in runs if run.status is dg.DagsterRunStatus.FAILURE}
        for name, runs in by_model.items()
    }
    assert failed == {"cards": {"cards__load_data"}, "transfers": {"transfers__load_data"}}, "the bad file, the kill"

    # One of them ends; the other goes on.
    retire(tracking.connect("cards"), specs["cards"].registered_model)
    before = {name: len(runs) for name, runs in by_model.items()}
    pa_csv.write_csv(transactions(400, seed=5, days=6), landing / "cards" / "c.csv")
    more = draw_transactions(handbook, 200, days=2, fraud_rate=0.1, first_day=40, first_row=1_500)
    pa_csv.write_csv(more, landing / "transfers" / "b.csv")
    wait_until(there, "transfers loads", lambda: rows(there, "transfers") == 1_700)
    wait_until(there, "the sets of transfers follow", lambda: follows(there, "transfers"))
    time.sleep(_QUIET_SECONDS)  # three ticks of each sensor

    assert rows(there, "cards") == 1_500
    after = {name: len([run for run in there.runs() if run.tags.get(MODEL) == name]) for name in CONTRACTS}
    assert after["cards"] == before["cards"]
    assert after["transfers"] > before["transfers"]
    assert by_alias(tracking.connect("transfers"), specs["transfers"].registered_model, "champion") is not None
    assert by_alias(tracking.connect("cards"), specs["cards"].registered_model, "champion") is None
