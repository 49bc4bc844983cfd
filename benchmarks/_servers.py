"""Servers side by side for the benchmarks of serving: ours and `mlflow models serve` with one model.

What belongs here: starting them, a connection, the model. What does not: what is measured (`serving`, `serving_load`),
the sides that neither has (`_serving_sides`).
"""

from __future__ import annotations

import http.client
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import mlflow
import xgboost as xgb

from benchmarks._data import frame, ulb_shaped
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.serving.app import ModelPlace, WorkerConfig
from mlops_assets.serving.bundle import golden_rows, pack, write_bundle
from mlops_assets.serving.policy import Policy
from mlops_assets.serving.settings import read_serving
from mlops_assets.serving.watching import write_aliases

TREES: Final = 65
_START_SECONDS: Final = 120.0
_LOG_BYTES: Final = 2**34  # nothing carries the log away here
_OURS = (
    "import pickle, sys, uvicorn\nfrom mlops_assets.serving.app import App\n"
    "config = pickle.load(open(sys.argv[1], 'rb'))\n"
    "uvicorn.run(App(config), host='127.0.0.1', port=int(sys.argv[2]), log_level='warning', access_log=False)\n"
)


class Connection:
    """One connection that is kept open: sends a request, waits for the answer; only what HTTP/1.1 needs here."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def post(self, path: str, body: bytes) -> tuple[int, bytes]:
        """Send a request of JSON; return status and body."""
        head = f"POST {path} HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        self._socket.sendall(head.encode() + b"\r\n\r\n" + body)
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += self._received()
        top, _, rest = answer.partition(b"\r\n\r\n")
        (length,) = [int(line[15:]) for line in top.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        while len(rest) < length:
            rest += self._received()
        return int(top[9:12]), rest

    def _received(self) -> bytes:
        part = self._socket.recv(1 << 16)
        if not part:
            raise ConnectionError("the server closed the connection")
        return part


@dataclass(frozen=True)
class Both:
    """The two servers, ready.

    Attributes:
        booster: The model.
        table: Rows to score, a frame.
        model: The model's folder, as MLflow has it.
        place: Our folder of the model, with versions 1 and 2 of it; 1 is champion.
        ours: Our port.
        mlflow: MLflow's.
    """

    booster: xgb.Booster
    table: Any
    model: Path
    place: Path
    ours: int
    mlflow: int

    @property
    def names(self) -> list[str]:
        """The features."""
        return list(self.table.columns)


@contextmanager
def both() -> Iterator[Both]:
    """Run both servers until the end of the block."""
    booster, test = _trained()
    table, contract = frame(test), load_contract("creditcard")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        home = Path(scratch)
        model, place = home / "mlflow_model", home / "m"
        scores = booster.predict(xgb.DMatrix(test.X[:5], feature_names=list(table.columns)))
        signature = mlflow.models.infer_signature(table.head(), scores)
        mlflow.xgboost.save_model(booster, str(model), signature=signature, model_format="ubj")
        for number in (1, 2):
            packed = pack(
                booster, model="fraud", number=number, run_id="bench", created=time.time(),
                policy=Policy(f"v{number}", 0.5, "cost"), golden=golden_rows(booster, test.X[:64]), levels={},
            )  # fmt: skip
            write_bundle(place / "versions", packed)
        write_aliases(place, {"champion": 1}, [])
        settings = read_serving({}, log_bytes=_LOG_BYTES)
        config = WorkerConfig((ModelPlace("fraud", "fraud", contract.to_yaml(), str(place)),), settings, str(home))
        (home / "config").write_bytes(pickle.dumps(config))
        ours, theirs = free_port(), free_port()
        serve = ["models", "serve", "-m", str(model), "-p", str(theirs), "--env-manager", "local"]
        stack.enter_context(process(["-c", _OURS, str(home / "config"), str(ours)], ours))
        stack.enter_context(process(["-m", "mlflow", *serve], theirs))
        yield Both(booster, table, model, place, ours, theirs)


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(arguments: Sequence[str], port: int, program: str = sys.executable) -> Iterator[None]:
    """Run a server until the end of the block; it is there once its port is."""
    with tempfile.TemporaryFile() as said:
        # MLflow looks for uvicorn on the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        started = subprocess.Popen(
            [program, *arguments], stdout=said, stderr=said, start_new_session=True,
            env={**os.environ, "PATH": path},
        )  # fmt: skip
        try:
            until = time.monotonic() + _START_SECONDS
            while True:
                try:
                    Connection(port)
                    break
                except OSError:
                    if started.poll() is not None or time.monotonic() > until:
                        said.seek(0)
                        raise RuntimeError(f"a server did not start: {said.read()[-2_000:]!r}") from None
                    time.sleep(0.1)
            yield
        finally:
            with suppress(ProcessLookupError):  # it ended by itself
                os.killpg(started.pid, signal.SIGKILL)
            started.wait()


@contextmanager
def mlserver(program: str, booster: xgb.Booster) -> Iterator[int]:
    """Run MLServer with the model until the end of the block; return its port.

    Args:
        program: `mlserver` of an environment of its own, which has `mlserver` and `mlserver-xgboost`.
        booster: The model.
    """
    with tempfile.TemporaryDirectory() as folder:
        model, port = Path(folder) / "model.ubj", free_port()
        booster.save_model(model)
        kind = {"name": "fraud", "implementation": "mlserver_xgboost.XGBoostModel", "parameters": {"uri": str(model)}}
        # Without its pool of processes, which MLServer 1.7.1 can't start beside uvloop 0.23; faster for one connection.
        ports: dict[str, Any] = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
        ports |= {"host": "127.0.0.1", "parallel_workers": 0, "metrics_dir": folder}
        (Path(folder) / "model-settings.json").write_text(json.dumps(kind))
        (Path(folder) / "settings.json").write_text(json.dumps(ports))
        with process(["start", folder], port, program):
            _wait_for(port, "/v2/models/fraud/ready")
            yield port


def _wait_for(port: int, path: str) -> None:
    until = time.monotonic() + _START_SECONDS
    while True:
        asked = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        asked.request("GET", path)
        if asked.getresponse().status == HTTPStatus.OK:
            return
        if time.monotonic() > until:
            raise RuntimeError(f"{path} on port {port} is not ready after {_START_SECONDS:g} s")
        time.sleep(0.1)


def _trained() -> tuple[xgb.Booster, Any]:
    """Return a model of the seed's shape, and rows to score."""
    train, test = ulb_shaped(20_000, fraud_rate=0.01)
    names = list(train.features)
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.1, "nthread": 1},
        xgb.DMatrix(train.X, label=train.y, feature_names=names),
        TREES,
    )
    return booster, test
