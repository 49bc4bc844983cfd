"""The server as a user starts it: on an embedded registry, with several workers, killed and restarted."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pytest
import requests
from deltalake import DeltaTable
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

from mlops_assets.serving.scoring import reference_scores
from mlops_assets_tests.serving.kit import event, rows
from mlops_assets_tests.serving.registry import Registry
from mlops_assets_tests.serving.served import Running, is_ready, running
from mlops_assets_tests.serving.test_requests import expected

pytestmark = pytest.mark.proof  # starts servers


def table_of(registry: Registry) -> pd.DataFrame:
    place = registry.settings.lakehouse_root / registry.spec.database / "inference_log"
    return DeltaTable(place).to_pandas()


def eventually(met: Any, seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < until
        time.sleep(0.1)


def score(server: Running, **given: Any) -> Any:
    return requests.post(f"{server.url}/v1/score", json=event(**given), timeout=30).json()


def test_the_champion_answers_the_alias_moves_and_every_answer_is_in_the_table(tmp_path: Path):
    registry = Registry(tmp_path)
    first = registry.register(1)

    with running(registry, "--workers", "2", environ={"port": "0"}) as server:
        answer = score(server, event_id="first")
        assert answer["score"] == expected(first)
        # The line that it prints is a request that works as pasted.
        (line,) = [line for line in server.said if line.startswith("try:  ")]
        port = server.url.rpartition(":")[2]
        pasted = shlex.split(line.removeprefix("try:  ").replace(":0/v1", f":{port}/v1"))
        told = subprocess.run(pasted, capture_output=True, text=True, check=True).stdout
        assert '"decision"' in told
        second = registry.register(2, threshold=0.125)
        statuses: list[int] = []
        until = time.monotonic() + 60
        while time.monotonic() < until:
            answer = score(server, event_id=f"m-{len(statuses)}")
            statuses.append(answer["model_version"])
            if statuses[-10:] == [2] * 10:
                break
        assert set(statuses) == {1, 2}
        assert answer["score"] == expected(second)
        assert answer["threshold"] == 0.125
        metrics = requests.get(f"{server.url}/metrics", timeout=30).text
        (counted,) = [line for line in metrics.splitlines() if 'route="score",status="200"' in line]
        assert float(counted.rpartition(" ")[2]) == len(statuses) + 2, "both workers count"
        assert server.stop() == 0

    logged = table_of(registry)
    assert len(logged) == len(statuses) + 2
    assert logged["request_id"].is_unique


def test_a_file_is_scored_without_server_and_spark(tmp_path: Path):
    registry = Registry(tmp_path)
    made = registry.register(1)
    X = rows(50, 4)
    texts = [["app", "shop", "web"][int(code)] for code in X[:, 2]]
    frame = pd.DataFrame(
        {"amount": X[:, 0].astype(float), "count": X[:, 1].astype(int), "channel": texts, "risk": X[:, 3]}
    )
    frame["note"] = "kept"
    frame.loc[7, "amount"] = -3.0
    frame.to_csv(tmp_path / "rows.csv", index=False)
    environ = {**os.environ, "MLOPS_HOME": str(tmp_path), "MLOPS_CONTRACT": registry.settings.contract}
    code = (
        "import sys\nfrom mlops_assets.cli.main import main\n"
        f"done = main(['score', {str(tmp_path / 'rows.csv')!r}, '--output', {str(tmp_path / 'out.parquet')!r}])\n"
        # MLflow imports pyspark where it is installed; no JVM is started.
        "import pyspark\nassert pyspark.SparkContext._gateway is None and 'dagster' not in sys.modules\nsys.exit(done)"
    )

    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "50 rows scored" in done.stderr
    assert "1 break the contract" in done.stderr
    scored = pd.read_parquet(tmp_path / "out.parquet")
    good = scored.index != 7
    assert scored["wrong"][7] == "out_of_range:amount"
    assert np.isnan(scored["probability_of_fraud"][7])
    found = scored["probability_of_fraud"][good].to_numpy().astype(np.float32)
    assert np.array_equal(found, reference_scores(made, X)[good])
    assert set(scored["note"]) == {"kept"}


def test_mlflow_s_own_client_is_answered(tmp_path: Path):
    registry = Registry(tmp_path)
    made = registry.register(1)
    X = rows(20, 8)
    texts = [["app", "shop", "web"][int(code)] for code in X[:, 2]]
    frame = pd.DataFrame(
        {"amount": X[:, 0].astype(float), "count": X[:, 1].astype(int), "channel": texts, "risk": X[:, 3]}
    )
    frame["risk"] = frame["risk"].fillna(0.5)
    X[:, 3] = frame["risk"]

    with running(registry, environ={"port": "0"}) as server:
        host, _, port = server.url.removeprefix("http://").partition(":")
        client = ScoringServerClient(host, int(port))
        client.wait_server_ready(timeout=30, scoring_server_proc=server.process)
        client.ping()
        predictions = client.invoke(frame).get_predictions()

    assert np.array_equal(predictions.to_numpy().ravel().astype(np.float32), reference_scores(made, X))


def test_a_worker_that_dies_while_it_is_asked_how_it_is_comes_back_at_once(tmp_path: Path):
    """uvicorn alone would wait for its answer for a minute."""
    registry = Registry(tmp_path)
    registry.register(1)

    with running(registry, environ={"port": "0", "log": "memory:"}) as server:
        (worker,) = [found for found in server.children() if psutil.Process(found).net_connections(kind="tcp")]
        os.kill(worker, signal.SIGSTOP)
        time.sleep(2)  # it is asked twice a second
        os.kill(worker, signal.SIGKILL)

        eventually(lambda: is_ready(server.url) and worker not in server.children(), 45)


def test_a_server_that_is_killed_twenty_times_loses_and_doubles_no_accepted_event(tmp_path: Path):
    registry = Registry(tmp_path)
    registry.register(1)
    chance = np.random.default_rng(5)
    answered: dict[str, str] = {}
    number, kills = 0, 0

    while kills < 20:
        with running(registry, environ={"port": "0"}) as server:
            # Half of the kills are of one process (a worker or the carrier), the others of all at once.
            for whole in (False, True):
                stop = threading.Event()

                def ask(stop: threading.Event = stop, server: Running = server) -> None:
                    nonlocal number
                    session = requests.Session()
                    while not stop.is_set():
                        number += 1
                        name = f"k-{number}"
                        try:
                            reply = session.post(f"{server.url}/v1/score", json=event(name), timeout=10)
                        except requests.RequestException:
                            continue  # not accepted
                        assert reply.status_code == 200
                        answered[name] = reply.json()["request_id"]

                thread = threading.Thread(target=ask)
                thread.start()
                time.sleep(chance.uniform(0.3, 1.5))
                if whole:
                    server.kill()
                else:
                    os.kill(int(chance.choice(server.children())), signal.SIGKILL)
                kills += 1
                stop.set()
                thread.join()
                if not whole:
                    eventually(lambda server=server: is_ready(server.url))
    with running(registry, environ={"port": "0"}) as server:
        again = score(server, event_id=next(iter(answered)))
        assert again["request_id"] == next(iter(answered.values()))
        server.stop()

    logged = table_of(registry)
    times = Counter(logged["request_id"])
    lost = [name for name, request in answered.items() if request not in times]
    # A decision that another process had made is logged again when it is asked for again: one row, by its ids.
    unique = logged.drop_duplicates(["request_id", "row", "arm"])
    assert lost == []
    assert len(logged) - len(unique) <= 1
    assert len(answered) > 100
