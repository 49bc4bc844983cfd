"""The processes of a server: workers that answer, carriers of the log, and the parent that follows the registry.

What belongs here: starting, restarting, stopping. What does not: what each of them does.

The parent asks the registry and writes bundles; workers answer; one carrier per model takes the log to its sink. So
neither MLflow nor a sink ever takes a moment from a request.
"""

from __future__ import annotations

import hashlib
import logging
import multiprocessing
import os
import shutil
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

import uvicorn
from uvicorn.supervisors import Multiprocess

from mlops_assets.errors import PlatformError, SettingsError, TrackingError
from mlops_assets.serving.app import App, ModelPlace, WorkerConfig
from mlops_assets.serving.log.carrier import carry
from mlops_assets.serving.watching import ALIASES_FILE

if TYPE_CHECKING:
    from multiprocessing.context import SpawnProcess

    from mlops_assets.serving.following import Follower
    from mlops_assets.serving.settings import ServingSettings

_LOOK_SECONDS: Final = 1.0
_SHARED_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - the folder in it is the user's alone, and begins empty
_DRAIN_SECONDS: Final = 20
# A worker answers its parent only once it has imported everything; on a busy machine uvicorn's five seconds are less
# than that, and the parent would kill each worker before it is there.
_START_SECONDS: Final = 60

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Served:
    """A model of a server.

    Attributes:
        place: As it crosses into workers.
        follower: Follows the registry for it; None serves what is on disk.
        sink: Where its log goes, as in `sinks.open_sink`.
    """

    place: ModelPlace
    follower: Follower | None
    sink: str


def serve(models: Sequence[Served], settings: ServingSettings, home: Path) -> int:
    """Serve until SIGTERM or Ctrl-C; return the exit code.

    Args:
        models: The models; the first is that of the addresses without a name.
        settings: How to serve.
        home: Folder of the server.

    Raises:
        TrackingError: A model has no champion, and none was served here before.
        SettingsError: The port is in use.
    """
    for model in models:
        _first_look(model)
    counters = _counters(home)
    worker = WorkerConfig(tuple(model.place for model in models), settings, str(home), str(counters), os.getpid())
    config = _config(partial(App, worker), settings)
    stop = threading.Event()
    with _bound(settings) as listening:
        port = listening.getsockname()[1]
        sys.stdout.write(f"serving on http://{settings.host}:{port} (Ctrl-C ends it)\n")
        sys.stdout.flush()
        threads = [
            threading.Thread(target=model.follower.run, args=(settings.poll_seconds, stop), daemon=True)
            for model in models
            if model.follower is not None
        ]
        carriers = [_Carriage(model, settings, stop) for model in models]
        threads += [threading.Thread(target=carrier.keep, daemon=True) for carrier in carriers]
        for thread in threads:
            thread.start()
        try:
            _Workers(config, sockets=[listening]).run()
        finally:
            stop.set()
            for carrier in carriers:
                carrier.end()
            shutil.rmtree(counters, ignore_errors=True)
    return 0


def _counters(home: Path) -> Path:
    """Return an empty folder for the counters of all workers, in memory where there is such a place.

    They are mapped into memory, and writing to a mapped file on a full disk kills the process (SIGBUS).
    """
    name = f"mlops-serving-{hashlib.sha256(str(home.absolute()).encode()).hexdigest()[:16]}"
    folder = _SHARED_MEMORY / name if os.access(_SHARED_MEMORY, os.W_OK) else home / "metrics"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, parents=True)
    return folder


def _first_look(model: Served) -> None:
    if model.follower is None:
        return
    try:
        aliases = model.follower.look()
    except PlatformError:
        if not (Path(model.place.folder) / ALIASES_FILE).is_file():
            raise
        log.warning("the registry can't be reached; %s is served as it was", model.place.name)
        return
    if not aliases:
        raise TrackingError(
            "the model has no champion to serve",
            where=f"registered model {model.place.registered}",
            fix="train one (`make demo`), or set the alias `champion`",
        )


def _config(app: partial[App], settings: ServingSettings) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        factory=True,
        host=settings.host,
        port=settings.port,
        workers=settings.workers,
        access_log=False,
        log_level="warning",
        lifespan="on",
        server_header=False,
        proxy_headers=False,
        ws="none",
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        timeout_worker_healthcheck=_START_SECONDS,
    )


def _bound(settings: ServingSettings) -> socket.socket:
    """Return the socket that all workers share; only the parent knows the port when it is 0."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
    except OSError as error:
        found.close()
        raise SettingsError(
            f"port {settings.port} can't be bound: {error.strerror}",
            where="MLOPS_SERVING_HOST, MLOPS_SERVING_PORT",
            fix="use another port: `mlops serve --port N`",
        ) from None
    found.set_inheritable(True)
    return found


class _Workers(Multiprocess):
    """Workers whose death is noticed at once.

    uvicorn keeps the worker's end of the pipe open in the parent, so that a worker that dies while it is asked whether
    it is well is noticed only when the time for an answer is up, here a minute.
    """

    def init_processes(self) -> None:
        """Start them."""
        super().init_processes()
        self._close_their_ends()

    def keep_subprocess_alive(self) -> None:
        """Start those again that are gone."""
        super().keep_subprocess_alive()
        self._close_their_ends()

    def _close_their_ends(self) -> None:
        for process in self.processes:
            process.child_conn.close()


class _Carriage:
    """A model's carrier process: started again when it dies."""

    def __init__(self, model: Served, settings: ServingSettings, stop: threading.Event) -> None:
        self._model, self._settings, self._stop = model, settings, stop
        self._process = self._start()

    def _start(self) -> SpawnProcess:
        arguments = (str(self._model.place.log), self._model.sink, self._settings.kafka_login)
        process = multiprocessing.get_context("spawn").Process(target=carry, args=arguments, name="carrier")
        process.start()
        return process

    def keep(self) -> None:
        """Start the process again whenever it is gone."""
        while not self._stop.wait(_LOOK_SECONDS):
            if not self._process.is_alive():
                log.warning("the carrier of %s died; a new one takes over", self._model.place.name)
                self._process = self._start()

    def end(self) -> None:
        """Let it send what is left, and end it."""
        self._process.terminate()
        self._process.join(_DRAIN_SECONDS)
        if self._process.is_alive():
            self._process.kill()
