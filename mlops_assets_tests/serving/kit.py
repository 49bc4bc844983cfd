"""A small model, its bundles, and an application that is called without a network."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import xgboost as xgb

from mlops_assets.data.contract.contract import Contract, parse_contract
from mlops_assets.serving.app import App, ModelPlace, WorkerConfig
from mlops_assets.serving.bundle import golden_rows, pack, write_bundle
from mlops_assets.serving.log.record import LogRow, decode
from mlops_assets.serving.log.segments import records
from mlops_assets.serving.policy import Policy
from mlops_assets.serving.scoring import Matrix
from mlops_assets.serving.settings import read_serving
from mlops_assets.serving.watching import write_aliases

CONTRACT = """
name: payments
version: 3
event_time: at
target: fraud
entity: card
amount: amount
features: [amount, count, channel, risk]
categories: [channel]
columns:
  - {name: at, type: timestamp}
  - {name: card, type: string}
  - {name: amount, type: double, min: 0}
  - {name: count, type: long, min: 0}
  - {name: channel, type: string, nullable: true}
  - {name: risk, type: double, min: 0, max: 1, nullable: true}
  - {name: fraud, type: long, min: 0, max: 1}
"""
LEVELS = {"channel": ["app", "shop", "web"]}
GOOD: dict[str, Any] = {"amount": 12.5, "count": 3, "channel": "web", "risk": 0.25}


def contract() -> Contract:
    return parse_contract(CONTRACT, where="test")


def rows(count: int, seed: int = 1) -> Matrix:
    random = np.random.default_rng(seed)
    X = np.empty((count, 4), dtype=np.float32)
    X[:, 0] = random.uniform(0, 100, count)
    X[:, 1] = random.integers(0, 20, count)
    X[:, 2] = random.integers(0, 3, count)
    X[:, 3] = random.uniform(0, 1, count)
    X[random.random(count) < 0.1, 3] = np.nan
    return X


@cache
def booster(seed: int = 1, trees: int = 20) -> xgb.Booster:
    X = rows(800, seed)
    y = (X[:, 0] > 60) & (X[:, 1] > 5) | (np.nan_to_num(X[:, 3]) > 0.9)
    data = xgb.DMatrix(
        X, label=y, feature_names=["amount", "count", "channel", "risk"], feature_types=["q", "q", "c", "q"],
        enable_categorical=True,
    )  # fmt: skip
    return xgb.train(
        {"nthread": 1, "max_depth": 4, "objective": "binary:logistic", "base_score": 0.1, "seed": seed}, data, trees
    )


def bundle(folder: Path, number: int, *, seed: int | None = None, threshold: float = 0.5) -> xgb.Booster:
    """Write a version; its booster depends on its number."""
    made = booster(number if seed is None else seed)
    packed = pack(
        made, model="fraud_payments", number=number, run_id=f"run{number}", created=time.time(),
        policy=Policy(f"v{number}-cost", threshold, "cost"), golden=golden_rows(made, rows(32, 99)), levels=LEVELS,
    )  # fmt: skip
    write_bundle(folder / "versions", packed)
    return made


def event(event_id: str = "e-1", card: str = "c-1", **features: Any) -> dict[str, Any]:
    return {"event_id": event_id, "event_time": "2026-11-01T12:00:00Z", "entity": card, "features": GOOD | features}


@dataclass
class Reply:
    """An answer."""

    status: int
    body: bytes
    headers: dict[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Calls an application in this process."""

    def __init__(self, home: Path, app: App) -> None:
        self.home, self.app = home, app

    async def __call__(
        self, method: str, path: str, body: Any = b"", *, kind: str = "application/json", **headers: str
    ) -> Reply:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": content, "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        scope = {
            "type": "http", "method": method, "path": path, "headers": [(b"content-type", kind.encode()), *given],
        }  # fmt: skip
        await self.app(scope, receive, send)
        return Reply(
            sent[0]["status"], sent[1]["body"], {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        )

    def logged(self) -> list[LogRow]:
        """Return all rows in the segments."""
        files = sorted((self.home / "m" / "log").glob("*/*.seg"))
        return [decode(payload) for path in files for payload, _ in records(path)]


def with_app(
    home: Path, use: Callable[[Client], Coroutine[Any, Any, None]], settings: Mapping[str, str] | None = None
) -> None:
    """Start an application on the bundles below a folder, use it, and stop it."""

    async def run() -> None:
        environ = {f"MLOPS_SERVING_{name.upper()}": value for name, value in (settings or {}).items()}
        place = ModelPlace("payments", "fraud_payments", CONTRACT, str(home / "m"))
        app = App(WorkerConfig((place,), read_serving(environ), str(home)))
        await app.start()
        try:
            await use(Client(home, app))
        finally:
            await app.stop()

    asyncio.run(run())


def champion(home: Path, number: int = 1, **aliases: int) -> None:
    """Point the alias `champion` at a version, and others."""
    write_aliases(home / "m", {"champion": number, **aliases}, [number])
