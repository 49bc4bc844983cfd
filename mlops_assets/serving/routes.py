"""The addresses of a server, and what answers each.

What belongs here: routes and their handlers. What does not: what an answer says (`events`, `mlflow_protocol`,
`v2_protocol`), errors as answers and the life of a worker (`app`).
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from mlops_assets import __version__
from mlops_assets.serving import mlflow_protocol, v2_protocol
from mlops_assets.serving.answers import Refused
from mlops_assets.serving.http import JSON, Receive, Scope, header, read_body
from mlops_assets.serving.metrics import CONTENT_TYPE
from mlops_assets.serving.service import CHAMPION, Arrival, Chosen, ModelService, describe, new_id

if TYPE_CHECKING:
    from mlops_assets.serving.app import App, ModelPlace
    from mlops_assets.serving.events import EventScorer
    from mlops_assets.serving.scoring import Scores
    from mlops_assets.serving.watching import Watcher

_TEXT: Final = b"text/plain; charset=utf-8"
_PINNED = re.compile(r"/v(\d{1,9})/invocations")
_DECISION = re.compile(r"/v1/decisions/(.{1,200})", re.DOTALL)
V2_MODEL = re.compile(r"/v2/models/([^/]+)(?:/versions/(\d{1,9}))?(/infer|/ready|)")
# Answered without a key, and not counted against the rate.
OPEN: Final = frozenset({"health", "ping"})

# Status, body, content type, further headers.
Answered = tuple[int, bytes, bytes, Sequence[tuple[bytes, bytes]]]


@dataclass
class Model:
    """A model of a worker, with what answers for it."""

    service: ModelService
    events: EventScorer
    watcher: Watcher
    place: ModelPlace


Handler = Callable[["App", Model, str, Scope, Receive, Arrival], Awaitable[Answered]]


def find(method: str, path: str) -> tuple[Handler, str]:
    """Return what answers an address, and its name in metrics.

    Raises:
        Refused: Nothing does (404), or not with this method (405).
    """
    exact = _ROUTES.get(path)
    if exact is None:
        patterns: tuple[tuple[re.Pattern[str], str, Handler, str], ...] = (
            (_PINNED, "POST", _invocations, "invocations"),
            (_DECISION, "GET", _decision, "decision"),
            (V2_MODEL, "POST" if path.endswith("/infer") else "GET", _v2_model, "v2"),
        )
        exact = next((found[1:] for found in patterns if found[0].fullmatch(path)), None)
    if exact is None:
        raise Refused(404, "there is nothing at this address")
    wanted, handler, route = exact
    if method != wanted and not (method == "HEAD" and wanted == "GET"):
        raise Refused(405, f"use {wanted}", headers=((b"allow", wanted.encode()),))
    return handler, route


async def _score(app: App, model: Model, _: str, scope: Scope, receive: Receive, arrival: Arrival) -> Answered:
    body = await read_body(scope, receive, app.settings.max_bytes)
    kind = header(scope, b"content-type").partition(b";")[0].strip().lower()
    if kind not in (b"application/json", b""):
        raise Refused(415, "use the content type application/json")
    return 200, model.events.score(body, arrival), JSON, ()


async def _batch(app: App, model: Model, _: str, scope: Scope, receive: Receive, arrival: Arrival) -> Answered:
    body = await read_body(scope, receive, app.settings.max_bytes)
    return 200, model.events.score_batch(body, arrival), JSON, ()


async def _decision(app: App, model: Model, path: str, *_: Any) -> Answered:
    return 200, model.events.find(path.removeprefix("/v1/decisions/")), JSON, ()


async def _invocations(app: App, model: Model, path: str, scope: Scope, receive: Receive, arrival: Arrival) -> Answered:
    service, request_id = model.service, new_id()
    pinned = _PINNED.fullmatch(path)
    chosen = service.champion() if pinned is None else service.pinned(int(pinned[1]))
    try:
        body = await read_body(scope, receive, app.settings.max_bytes)
        kind = header(scope, b"content-type").decode("latin-1") or "application/json"
        table = mlflow_protocol.read(body, kind)
        scores = await _scored(app, service, chosen, table, request_id, arrival)
    except Refused as refused:
        service.write_refusal(request_id, arrival, refused)
        raise
    return 200, mlflow_protocol.predictions(scores), JSON, _origin(chosen, request_id)


async def _scored(
    app: App, service: ModelService, chosen: Chosen, table: mlflow_protocol.Columns, request_id: str, arrival: Arrival
) -> Scores:
    if table.rows > app.settings.max_rows:
        raise Refused(413, "too many rows in one request")
    checked = service.reader.check(table.values, table.rows, chosen.version.levels, text=table.text)
    return await service.score_rows(chosen, checked, request_id, arrival)


async def _v2_model(app: App, model: Model, path: str, scope: Scope, receive: Receive, arrival: Arrival) -> Answered:
    found, service = V2_MODEL.fullmatch(path), model.service
    if found is None:
        raise Refused(404, "there is nothing at this address")
    number, action = found[2], found[3]
    if action == "/infer":
        chosen = _by_number(service, number)
        request_id = new_id()
        try:
            body = await read_body(scope, receive, app.settings.max_bytes)
            table, given = v2_protocol.read(body, service.contract)
            scores = await _scored(app, service, chosen, table, request_id, arrival)
        except Refused as refused:
            service.write_refusal(request_id, arrival, refused)
            raise
        body = v2_protocol.answer(service.name, chosen, given or request_id, scores)
        return 200, body, JSON, _origin(chosen, request_id)
    if action == "/ready":
        ready = service.ready if number is None else bool(_by_number(service, number))
        body = json.dumps({"name": service.name, "ready": ready}).encode()
        return 200 if ready else 503, body, JSON, ()
    _by_number(service, number)
    served = [service.champion().version.number, *service.versions.pinned]
    return 200, v2_protocol.metadata(service.name, service.contract, sorted(set(served))), JSON, ()


def _by_number(service: ModelService, number: str | None) -> Chosen:
    champion = service.champion()
    if number is None or int(number) == champion.version.number:
        return champion
    return service.pinned(int(number))


async def _v2_server(app: App, *_: Any) -> Answered:
    body = {"name": "mlops_assets", "version": __version__, "extensions": []}
    return 200, json.dumps(body).encode(), JSON, ()


async def _live(app: App, *_: Any) -> Answered:
    return 200, b'{"live":true}', JSON, ()


async def _ready(app: App, *_: Any) -> Answered:
    ready = bool(app.models) and all(model.service.ready for model in app.models.values()) and not app.draining
    return (200, b'{"ready":true}', JSON, ()) if ready else (503, b'{"ready":false}', JSON, ())


async def _ping(app: App, *given: Any) -> Answered:
    status, *_ = await _ready(app, *given)
    return status, b"\n", _TEXT, ()


async def _version(app: App, *_: Any) -> Answered:
    models = {}
    for name, model in app.models.items():
        versions = model.service.versions
        models[name] = {
            "aliases": {alias: describe(Chosen(found, CHAMPION, alias)) for alias, found in versions.aliases.items()},
            "versions": {
                str(number): describe(Chosen(found, "pinned", "")) for number, found in versions.pinned.items()
            },
            "previous": None if versions.previous is None else versions.previous.number,
            "refused": dict(versions.refused),
        }
    return 200, json.dumps({"server": __version__, "models": models}).encode(), JSON, ()


async def _metrics(app: App, *_: Any) -> Answered:
    services = [model.service for model in app.models.values()]
    return 200, await asyncio.to_thread(app.metrics.exposition, services), CONTENT_TYPE, ()


async def _document(app: App, *_: Any) -> Answered:
    return 200, app.openapi, JSON, ()


_ROUTES: Final[dict[str, tuple[str, Handler, str]]] = {
    "/v1/score": ("POST", _score, "score"),
    "/v1/score/batch": ("POST", _batch, "score_batch"),
    "/invocations": ("POST", _invocations, "invocations"),
    "/latest/invocations": ("POST", _invocations, "invocations"),
    "/health/live": ("GET", _live, "health"),
    "/health/ready": ("GET", _ready, "health"),
    "/ping": ("GET", _ping, "ping"),
    "/health": ("GET", _ping, "ping"),
    "/version": ("GET", _version, "version"),
    "/metrics": ("GET", _metrics, "metrics"),
    "/openapi.json": ("GET", _document, "openapi"),
    "/v2": ("GET", _v2_server, "v2"),
    "/v2/health/live": ("GET", _live, "health"),
    "/v2/health/ready": ("GET", _ready, "health"),
}


def _origin(chosen: Chosen, request_id: str) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers that say which version and policy an answer comes from."""
    return (
        (b"x-request-id", request_id.encode()),
        (b"x-model-version", str(chosen.version.number).encode()),
        (b"x-policy-version", chosen.version.policy.version.encode("ascii", "replace")),
    )
