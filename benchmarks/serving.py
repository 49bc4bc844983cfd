"""An answer of the server, side by side with `mlflow models serve`, the seed project's app and the limits.

One model (the seed's 29 features, 65 trees), one machine, one connection that is kept open, the next request after the
answer. The sides take turns. Beside them: XGBoost's C API alone, and an application of uvicorn that does nothing.

Ours answers `/v1/score` with everything switched on: contract, event id, log on disk, metrics. All sides run
uvicorn[standard] (uvloop, httptools), which MLflow itself does not require: with plain uvicorn it would be slower.
"""

from __future__ import annotations

import argparse
import json
import os
import pickle
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import mlflow
import numpy as np
import xgboost as xgb

from benchmarks._data import frame, ulb_shaped
from benchmarks._report import report
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.serving.app import ModelPlace, WorkerConfig
from mlops_assets.serving.bundle import golden_rows, write_bundle
from mlops_assets.serving.policy import Policy
from mlops_assets.serving.scoring import RowScorer
from mlops_assets.serving.settings import read_serving
from mlops_assets.serving.watching import write_aliases

TREES: Final = 65
RATIO: Final = "one row, p50: mlflow models serve / ours (/v1/score)"
SEED_RATIO: Final = "one row, p50: the seed project's app / ours (/v1/score)"
SAME_PROTOCOL_RATIO: Final = "one row, p50: mlflow models serve / ours (/invocations)"
_PERCENTILES: Final = (50, 95, 99, 99.9)
_START_SECONDS: Final = 120.0
LOG_BYTES: Final = 2**34  # nothing carries the log away here
OURS = (
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


def timed(ask: Callable[[int], object], requests: int) -> list[float]:
    """Return the microseconds of each request."""
    taken = []
    for number in range(requests):
        started = time.perf_counter_ns()
        ask(number)
        taken.append((time.perf_counter_ns() - started) / 1e3)
    return taken


def free_port() -> int:
    """Return a port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@contextmanager
def process(arguments: Sequence[str], port: int) -> Iterator[None]:
    """Run a server until the end of the block; it is there once its port is."""
    with tempfile.TemporaryFile() as said:
        # MLflow looks for uvicorn on the path.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        started = subprocess.Popen(
            [sys.executable, *arguments], stdout=said, stderr=said, start_new_session=True,
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


def trained() -> tuple[xgb.Booster, Any]:
    """Return a model of the seed's shape, and rows to score."""
    train, test = ulb_shaped(20_000, fraud_rate=0.01)
    names = list(train.features)
    booster = xgb.train(
        {"objective": "binary:logistic", "max_depth": 6, "learning_rate": 0.1, "nthread": 1},
        xgb.DMatrix(train.X, label=train.y, feature_names=names),
        TREES,
    )
    return booster, test


def measure(requests: int, rounds: int, sizes: Sequence[int]) -> None:  # noqa: C901, PLR0915 - the closures of one run
    """Measure, and report."""
    booster, test = trained()
    table = frame(test)
    names = list(table.columns)
    contract = load_contract("creditcard")
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
        home = Path(scratch)
        model = home / "mlflow_model"
        signature = mlflow.models.infer_signature(
            table.head(), booster.predict(xgb.DMatrix(test.X[:5], feature_names=names))
        )
        mlflow.xgboost.save_model(booster, str(model), signature=signature, model_format="ubj")
        write_bundle(
            home / "m" / "versions", booster, model="fraud", number=1, run_id="bench", created=time.time(),
            policy=Policy("v1", 0.5, "cost"), golden=golden_rows(booster, test.X[:64]), levels={},
        )  # fmt: skip
        write_aliases(home / "m", {"champion": 1}, [])
        config = WorkerConfig(
            (ModelPlace("fraud", "fraud", contract.to_yaml(), str(home / "m")),),
            read_serving({}, log_bytes=LOG_BYTES),
            str(home),
        )
        (home / "config").write_bytes(pickle.dumps(config))
        ports = {side: free_port() for side in ("ours", "mlflow", "seed", "empty")}
        serve = ["models", "serve", "-m", str(model), "-p", str(ports["mlflow"]), "--env-manager", "local"]
        stack.enter_context(process(["-c", OURS, str(home / "config"), str(ports["ours"])], ports["ours"]))
        stack.enter_context(process(["-m", "mlflow", *serve], ports["mlflow"]))
        for side in ("seed", "empty"):
            sides = ["-m", "benchmarks._serving_sides", side, str(ports[side]), str(model)]
            stack.enter_context(process(sides, ports[side]))
        connections = {side: Connection(port) for side, port in ports.items()}

        first = {name: float(value) for name, value in table.iloc[0].items()}
        run = 0

        def event(number: int) -> bytes:
            return json.dumps({"event_id": f"{run}-{number}", "event_time": 1.0, "features": first}).encode()

        def ask(side: str, path: str, body: Callable[[int], bytes]) -> Callable[[int], object]:
            def once(number: int) -> None:
                status, answer = connections[side].post(path, body(number))
                if status != HTTPStatus.OK:
                    raise RuntimeError(f"{side} answered {status}: {answer[:200]!r}")

            return once

        def split(rows: int) -> Callable[[int], bytes]:
            part = table.head(rows)
            content = {"columns": names, "data": part.to_numpy().tolist()}
            body = json.dumps({"dataframe_split": content}).encode()
            return lambda _: body

        flat = json.dumps(first).encode()
        kinds: dict[str, Callable[[int], object]] = {
            "ours /v1/score": ask("ours", "/v1/score", event),
            "seed app": ask("seed", "/latest/invocations", lambda _: flat),
            "empty uvicorn": ask("empty", "/", lambda _: flat),
        }
        for rows in sizes:
            kinds[f"ours /invocations {rows}"] = ask("ours", "/invocations", split(rows))
            kinds[f"mlflow {rows}"] = ask("mlflow", "/invocations", split(rows))
        scorer = RowScorer(booster)
        kinds["C API"] = lambda _: scorer.score_row()
        taken: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
        for run in range(rounds + 1):
            for kind, once in kinds.items():
                # A server closes a connection on which nothing comes for some seconds.
                connections.update({side: Connection(port) for side, port in ports.items()})
                slow, large = "mlflow" in kind, kind.endswith(" 1000")
                found = timed(once, max(20, requests // (40 if large else 10 if slow else 1)))
                if run:  # the first round warms up
                    taken[kind].append(found)

    def p50(kind: str) -> list[float]:
        return [float(np.median(found)) for found in taken[kind]]

    def ratio(slow: str, fast: str) -> list[float]:
        return [one / other for one, other in zip(p50(slow), p50(fast), strict=True)]

    ours = "ours /v1/score"
    ratios = {
        RATIO: ratio("mlflow 1", ours),
        SEED_RATIO: ratio("seed app", ours),
        SAME_PROTOCOL_RATIO: ratio("mlflow 1", "ours /invocations 1"),
        "one row, p50: ours (/v1/score) / an empty uvicorn app": ratio(ours, "empty uvicorn"),
        **{f"{rows} rows, p50: mlflow / ours": ratio(f"mlflow {rows}", f"ours /invocations {rows}") for rows in sizes},
    }
    microseconds = {}
    for kind, rounds_of in taken.items():
        every = np.concatenate([np.array(found) for found in rounds_of])
        microseconds[kind] = {
            **{f"p{q}": float(np.percentile(every, q)) for q in _PERCENTILES},
            "requests": len(every),
            "requests_per_second": float(1e6 / every.mean()),
        }
        shown = "  ".join(f"p{q} {np.percentile(every, q):9.1f}" for q in _PERCENTILES)
        print(f"{kind:24} {shown}  us  {1e6 / every.mean():9.0f} requests/s")
    report("serving", ratios=ratios, details={"microseconds": microseconds, "trees": TREES, "features": len(names)})


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=2_000, help="requests of a side and round (MLflow: a tenth)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 32, 1_000], help="rows of a request")
    options = parser.parse_args(arguments)
    if 1 not in options.sizes:
        parser.error("--sizes needs 1")
    measure(options.requests, options.rounds, options.sizes)


if __name__ == "__main__":
    main()
