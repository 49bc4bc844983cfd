"""The server under load: requests a second side by side with `mlflow models serve`, and its tail while things go wrong.

Closed loop: several connections, each with its next request once the answer is there; the sides take turns. Open loop:
requests at half of the rate that the closed loop reached, each timed from the moment at which it was due, so that a
pause of the server counts for all that waited. The second open loop has a champion that moves between two versions five
times a second, and a log whose sink is a broker that is not there.

One worker on one machine: the generator takes a core of its own.
"""

from __future__ import annotations

import argparse
import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks._report import report
from benchmarks._servers import Connection, both, process
from mlops_assets.serving.watching import write_aliases

RATIO: Final = "requests a second, one row each: ours (/v1/score) / mlflow models serve"
TAIL_RATIO: Final = "p99.9 at half load: with swaps and a dead sink / without"
_CARRY: Final = "import sys\nfrom mlops_assets.serving.log.carrier import carry\ncarry(sys.argv[1], sys.argv[2], {})\n"
_DEAD: Final = "kafka://127.0.0.1:1/predictions"
_SWAP_SECONDS: Final = 0.2
_START_SECONDS: Final = 4.0  # until the carrier is there, and both versions are loaded
Body = Callable[[], bytes]


class Load:
    """Sends requests from several connections, each with a thread of its own.

    Args:
        port: The server.
        path: The address.
        body: Makes the body of the next request; called by several threads.
        connections: How many.
    """

    def __init__(self, port: int, path: str, body: Body, connections: int) -> None:
        self._port, self._path, self._body, self._connections = port, path, body, connections

    def closed(self, seconds: float) -> float:
        """Return requests a second, each sent once the one before on its connection is answered."""
        until = time.perf_counter() + seconds
        counts = [0] * self._connections

        def ask(at: int) -> None:
            connection = Connection(self._port)
            while time.perf_counter() < until:
                self._once(connection)
                counts[at] += 1

        self._together(ask)
        return sum(counts) / seconds

    def open(self, rate: float, seconds: float) -> list[float]:
        """Return microseconds from the moment at which each request was due to its answer."""
        start = time.perf_counter() + 0.05
        taken: list[list[float]] = [[] for _ in range(self._connections)]

        def ask(at: int) -> None:
            connection = Connection(self._port)
            for number in range(at, int(rate * seconds), self._connections):
                due = start + number / rate
                if (early := due - time.perf_counter()) > 0:
                    time.sleep(early)
                self._once(connection)
                taken[at].append(1e6 * (time.perf_counter() - due))

        self._together(ask)
        return [one for found in taken for one in found]

    def _once(self, connection: Connection) -> None:
        status, answer = connection.post(self._path, self._body())
        if status != HTTPStatus.OK:
            raise RuntimeError(f"answered {status}: {answer[:200]!r}")

    def _together(self, ask: Callable[[int], None]) -> None:
        with ThreadPoolExecutor(self._connections) as threads:
            list(threads.map(ask, range(self._connections)))


@contextmanager
def moving(folder: Path) -> Iterator[list[int]]:
    """Move the champion between versions 1 and 2 for the length of a block; yields a list that grows by each move."""
    stop, moves = threading.Event(), [0]

    def move() -> None:
        while not stop.wait(_SWAP_SECONDS):
            moves.append(1 + len(moves) % 2)
            write_aliases(folder, {"champion": moves[-1]}, [])

    thread = threading.Thread(target=move)
    thread.start()
    try:
        yield moves
    finally:
        stop.set()
        thread.join()


def measure(seconds: float, rounds: int, connections: int) -> None:
    """Measure, and report."""
    rates: dict[str, list[float]] = {"ours": [], "mlflow": []}
    tails: dict[str, list[list[float]]] = {"quiet": [], "moving": []}
    with both() as there:
        table, names, place, port = there.table, there.names, there.place, there.ours
        first = {name: float(value) for name, value in table.iloc[0].items()}
        counter = iter(range(10**9))
        lock = threading.Lock()

        def event() -> bytes:
            with lock:
                number = next(counter)
            return json.dumps({"event_id": f"e-{number}", "event_time": 1.0, "features": first}).encode()

        split = {"columns": names, "data": [list(first.values())]}
        body = json.dumps({"dataframe_split": split}).encode()
        sides = {
            "ours": Load(port, "/v1/score", event, connections),
            "mlflow": Load(there.mlflow, "/invocations", lambda: body, connections),
        }
        for number in range(rounds + 1):
            for side, load in sides.items():
                found = load.closed(seconds)
                if number:  # the first round warms up
                    rates[side].append(found)
        rate = float(np.median(rates["ours"])) / 2
        swaps = 0
        for _ in range(rounds):
            tails["quiet"].append(sides["ours"].open(rate, seconds))
            with process(["-c", _CARRY, str(place / "log"), _DEAD], port), moving(place) as moves:
                time.sleep(_START_SECONDS)
                tails["moving"].append(sides["ours"].open(rate, seconds))
            swaps += len(moves) - 1

    def p(kind: str, which: float) -> list[float]:
        return [float(np.percentile(found, which)) for found in tails[kind]]

    ratios = {
        RATIO: [one / other for one, other in zip(rates["ours"], rates["mlflow"], strict=True)],
        TAIL_RATIO: [one / other for one, other in zip(p("moving", 99.9), p("quiet", 99.9), strict=True)],
    }
    microseconds: dict[str, dict[str, float]] = {
        kind: {f"p{which}": float(np.percentile(np.concatenate(found), which)) for which in (50, 95, 99, 99.9)}
        for kind, found in tails.items()
    }
    for kind, shares in microseconds.items():
        print(f"{kind:8} " + "  ".join(f"{name} {value:9.1f}" for name, value in shares.items()) + " us")
    print(f"{rate:.0f} requests a second in the open loop; {swaps} moves of the champion")
    details = {"requests_per_second": rates, "microseconds": microseconds, "open_loop_rate": rate, "swaps": swaps}
    report("serving_load", ratios=ratios, details=details)


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse the command line, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="of each turn")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=8)
    options = parser.parse_args(arguments)
    measure(options.seconds, options.rounds, options.connections)


if __name__ == "__main__":
    main()
