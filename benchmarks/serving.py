"""An answer of the server, side by side with `mlflow models serve`, the seed project's app and the limits.

One model (the seed's 29 features, 65 trees), one machine, one connection that is kept open, the next request after the
answer. The sides take turns. Beside them: XGBoost's C API alone, and an application of uvicorn that does nothing.

Ours answers `/v1/score` with everything switched on: contract, event id, log on disk, metrics. All sides run
uvicorn[standard] (uvloop, httptools), which MLflow itself does not require: with plain uvicorn it would be slower.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from http import HTTPStatus
from typing import Final

import numpy as np

from benchmarks._report import report
from benchmarks._servers import TREES, Connection, both, free_port, mlserver, process
from mlops_assets.serving.scoring import RowScorer

RATIO: Final = "one row, p50: mlflow models serve / ours (/v1/score)"
SEED_RATIO: Final = "one row, p50: the seed project's app / ours (/v1/score)"
SAME_PROTOCOL_RATIO: Final = "one row, p50: mlflow models serve / ours (/invocations)"
_PERCENTILES: Final = (50, 95, 99, 99.9)


def timed(ask: Callable[[int], object], requests: int) -> list[float]:
    """Return the microseconds of each request."""
    taken = []
    for number in range(requests):
        started = time.perf_counter_ns()
        ask(number)
        taken.append((time.perf_counter_ns() - started) / 1e3)
    return taken


def measure(requests: int, rounds: int, sizes: Sequence[int], beside: str | None) -> None:  # noqa: C901 - closures
    """Measure, and report.

    Args:
        requests: Requests of a side and round.
        rounds: Rounds; one more warms up.
        sizes: Rows of a request.
        beside: MLServer's program; None goes without.
    """
    with both() as there, ExitStack() as stack:
        table, names, model = there.table, there.names, there.model
        ports = {"ours": there.ours, "mlflow": there.mlflow, "seed": free_port(), "empty": free_port()}
        for side in ("seed", "empty"):
            sides = ["-m", "benchmarks._serving_sides", side, str(ports[side]), str(model)]
            stack.enter_context(process(sides, ports[side]))
        if beside:
            ports["mlserver"] = stack.enter_context(mlserver(beside, there.booster))
        connections = {side: Connection(port) for side, port in ports.items()}

        first = {name: float(value) for name, value in table.iloc[0].items()}
        events: list[bytes] = []  # each has an id of its own; written before the clock starts, as all bodies are

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

        def tensor(rows: int) -> Callable[[int], bytes]:
            values = table.head(rows).to_numpy(dtype=np.float32)
            content = {"name": "rows", "datatype": "FP32", "shape": values.shape, "data": values.ravel().tolist()}
            body = json.dumps({"inputs": [content]}).encode()
            return lambda _: body

        flat = json.dumps(first).encode()
        kinds: dict[str, Callable[[int], object]] = {
            "ours /v1/score": ask("ours", "/v1/score", events.__getitem__),
            "seed app": ask("seed", "/latest/invocations", lambda _: flat),
            "empty uvicorn": ask("empty", "/", lambda _: flat),
        }
        for rows in sizes:
            kinds[f"ours /invocations {rows}"] = ask("ours", "/invocations", split(rows))
            kinds[f"mlflow {rows}"] = ask("mlflow", "/invocations", split(rows))
            if beside:
                kinds[f"mlserver {rows}"] = ask("mlserver", "/v2/models/fraud/infer", tensor(rows))
        scorer = RowScorer(there.booster)
        kinds["C API"] = lambda _: scorer.score_row()
        taken: dict[str, list[list[float]]] = {kind: [] for kind in kinds}
        for run in range(rounds + 1):
            given = [{"event_id": f"{run}-{at}", "event_time": 1.0, "features": first} for at in range(requests)]
            events[:] = [json.dumps(each).encode() for each in given]
            for kind, once in kinds.items():
                # A server closes a connection on which nothing comes for some seconds.
                connections.update({side: Connection(port) for side, port in ports.items()})
                slow, large = kind.startswith("ml"), kind.endswith(" 1000")
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
        **({"one row, p50: MLServer / ours (/v1/score)": ratio("mlserver 1", ours)} if beside else {}),
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
    parser.add_argument(
        "--requests", type=int, default=2_000, help="requests of a side and round (MLflow and MLServer: a tenth)"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sizes", type=int, nargs="+", default=[1, 32, 1_000], help="rows of a request")
    parser.add_argument("--mlserver", help="program of an environment with mlserver and mlserver-xgboost")
    options = parser.parse_args(arguments)
    if 1 not in options.sizes:
        parser.error("--sizes needs 1")
    measure(options.requests, options.rounds, options.sizes, options.mlserver)


if __name__ == "__main__":
    main()
