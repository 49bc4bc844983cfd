"""The server's application: what every answer has in common.

What belongs here: errors as answers, keys, the life of a worker. What does not: addresses (`routes`), processes
(`server`).

No answer repeats a value of a request or shows a traceback; what was unexpected is in the worker's own log.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import threading
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mlops_assets.data.contract.contract import parse_contract
from mlops_assets.serving.answers import Refused
from mlops_assets.serving.decisions import Decisions, remove_old
from mlops_assets.serving.entities import EntityHash, secret_of
from mlops_assets.serving.events import EventScorer
from mlops_assets.serving.http import (
    JSON,
    DisconnectedError,
    RateLimit,
    Receive,
    Scope,
    Send,
    answer,
    require_key,
)
from mlops_assets.serving.log.segments import SegmentWriter
from mlops_assets.serving.metrics import Metrics
from mlops_assets.serving.openapi import document_of
from mlops_assets.serving.routes import OPEN, V2_MODEL, Model, find
from mlops_assets.serving.service import Arrival, ModelService
from mlops_assets.serving.settings import ServingSettings
from mlops_assets.serving.shadow import Shadow
from mlops_assets.serving.watching import Watcher

_SWEEP_SECONDS: Final = 600.0
_PARENT_SECONDS: Final = 0.5

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ModelPlace:
    """A model that is served, as it crosses into a worker.

    Attributes:
        name: Its name in addresses.
        registered: Its name in the registry.
        contract: The contract as YAML.
        folder: Its folder: aliases, bundles, decisions, log.
    """

    name: str
    registered: str
    contract: str
    folder: str

    @property
    def log(self) -> Path:
        """Folder of its log."""
        return Path(self.folder) / "log"


@dataclass(frozen=True)
class WorkerConfig:
    """What a worker is started with.

    Attributes:
        models: The models; the first is that of the addresses without a name.
        settings: How to answer.
        home: Folder of the server.
        metrics: Folder of the counters; empty to count for one worker alone.
        parent: The process without which a worker ends; 0 for none.
    """

    models: tuple[ModelPlace, ...]
    settings: ServingSettings
    home: str
    metrics: str = ""
    parent: int = 0


class App:
    """The ASGI application of one worker.

    Args:
        config: What it serves.

    Attributes:
        settings: How to answer.
        metrics: What is counted.
        models: The models by name; the first is that of the addresses without a name.
        draining: Whether the worker is about to end.
        openapi: The OpenAPI document.
    """

    def __init__(self, config: WorkerConfig) -> None:
        self._config, self.settings = config, config.settings
        self._keys = config.settings.keys
        self._rate = RateLimit(config.settings.rate)
        self.metrics = Metrics(Path(config.metrics) if config.metrics else None)
        self.models: dict[str, Model] = {}
        self.draining = False
        self.openapi = b""
        self._tasks: list[asyncio.Task[None]] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or follow the server's start and end."""
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        arrival = Arrival.now(self.settings.deadline_ms)
        model, path = self._find(scope["path"])
        name, route = ("" if model is None else model.service.name), "other"
        try:
            model = _require(model)
            handler, route = find(scope["method"], path)
            if route not in OPEN:
                require_key(scope, self._keys)
                self._rate.take()
            status, body, kind, headers = await handler(self, model, path, scope, receive, arrival)
        except Refused as refused:
            status, kind, headers = refused.status, JSON, refused.headers
            body = json.dumps(refused.document()).encode()
        except DisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller gets an answer without its text
            log.error("%s: %s", route, type(error).__name__)  # noqa: TRY400 - a traceback may show values
            status, body, kind, headers = 500, b'{"error":"internal error"}', JSON, ()
        taken = arrival.microseconds / 1e6
        await answer(send, status, body, kind, headers)
        self.metrics.request(name, route, status, taken)

    async def start(self) -> None:
        """Open the models; those whose versions are there are ready on return."""
        settings = self.settings
        secret = secret_of(Path(self._config.home), settings.entity_salt.get_secret_value())
        for place in self._config.models:
            writer = uuid.uuid4().hex
            contract = parse_contract(place.contract, where=place.name)
            service = ModelService(
                place.name,
                place.registered,
                contract,
                settings,
                log=SegmentWriter(place.log, settings.log_bytes),
                log_folder=place.log,
                decisions=Decisions(Path(place.folder) / "decisions.db", writer, settings.remember_hours * 3_600),
                entities=EntityHash(secret, settings.entity_salt_days),
                metrics=self.metrics,
            )
            if settings.shadow:
                service.shadow = Shadow(service, settings.shadow)
            model = Model(service, EventScorer(service, writer), Watcher(service, Path(place.folder)), place)
            self.models[place.name] = model
            await model.watcher.look()
            self._tasks.append(asyncio.create_task(model.watcher.run()))
        self.openapi = json.dumps(document_of([model.service for model in self.models.values()])).encode()
        threading.Thread(target=self._sweep, name="sweep", daemon=True).start()
        if self._config.parent:
            self._tasks.append(asyncio.create_task(_end_with(self._config.parent)))

    async def stop(self) -> None:
        """Close everything; the server has answered its last request."""
        self.draining = True
        for task in self._tasks:
            task.cancel()
        for model in self.models.values():
            if model.service.shadow is not None:
                model.service.shadow.close()
            model.service.close()

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                try:
                    await self.start()
                except Exception as error:  # noqa: BLE001 - told to the server, which ends
                    log.error("the worker can't start: %s", error)  # noqa: TRY400 - its text is enough
                    await send({"type": "lifespan.startup.failed", "message": type(error).__name__})
                    return
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _sweep(self) -> None:
        pause = threading.Event()
        while not pause.wait(_SWEEP_SECONDS) and not self.draining:
            for model in self.models.values():
                remove_old(Path(model.place.folder) / "decisions.db", self.settings.remember_hours * 3_600)

    def _find(self, path: str) -> tuple[Model | None, str]:
        """Return the model that an address means, and the rest of the address."""
        if path.startswith("/models/"):
            name, _, rest = path.removeprefix("/models/").partition("/")
            return self.models.get(name), f"/{rest}"
        if path.startswith("/v2/models/") and (found := V2_MODEL.fullmatch(path)):
            return self.models.get(found[1]), path
        return next(iter(self.models.values()), None), path


def _require(model: Model | None) -> Model:
    if model is None:
        raise Refused(404, "this model is not served")
    return model


async def _end_with(parent: int) -> None:
    """End this worker, as the parent would, once the parent is gone."""
    while os.getppid() == parent:  # noqa: ASYNC110 - nothing tells of it
        await asyncio.sleep(_PARENT_SECONDS)
    signal.raise_signal(signal.SIGTERM)
