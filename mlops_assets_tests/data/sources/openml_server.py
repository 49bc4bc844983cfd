"""A loopback OpenML server: the three endpoints that the client uses, on real sockets, able to misbehave.

It follows the same public reference as the client (see `mlops_assets/data/sources/openml.py`) and shares no code with
it. An endpoint misbehaves by being given replies that go before its honest one.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any, Literal
from urllib.parse import unquote

from mlops_assets_tests.data.sources.web_server import Reply, WebServer

Endpoint = Literal["list", "description", "file"]


@dataclass(frozen=True)
class ServedDataSet:
    """One version of a data set; `description` overrides fields of its description, None removes one."""

    did: int
    name: str
    version: int
    content: bytes
    status: str = "active"
    format: str = "ARFF"
    description: tuple[tuple[str, Any], ...] = ()


class OpenMLServer(WebServer):
    """Speaks /api/v1/json/data/list, /api/v1/json/data/{id} and /data/v1/download/{file id}/{name}."""

    def __init__(self) -> None:
        super().__init__()
        self._data_sets: list[ServedDataSet] = []
        self._before: dict[Endpoint, list[Reply]] = {"list": [], "description": [], "file": []}

    def add(self, data_set: ServedDataSet) -> None:
        """Offer a data set."""
        self._data_sets.append(data_set)

    def misbehave(self, endpoint: Endpoint, *replies: Reply) -> None:
        """Give these replies, once each, before the honest ones."""
        self._before[endpoint] = list(replies)

    def asked(self, endpoint: Endpoint) -> int:
        """Return how often an endpoint was asked."""
        return sum(self._endpoint(request.path)[0] == endpoint for request in self.seen)

    def reply_to(self, path: str) -> Reply:
        """Answer as OpenML does, or as it was told to."""
        endpoint, argument = self._endpoint(path)
        if endpoint is None:
            return _error(100, "Function not valid")
        if self._before[endpoint]:
            return self._before[endpoint].pop(0)
        answers = {"list": self._list, "description": self._description, "file": self._file}
        return answers[endpoint](argument)

    @staticmethod
    def _endpoint(path: str) -> tuple[Endpoint | None, str]:
        prefixes: tuple[tuple[Endpoint, str], ...] = (
            ("list", "/api/v1/json/data/list/"),
            ("description", "/api/v1/json/data/"),
            ("file", "/data/v1/download/"),
        )
        for endpoint, prefix in prefixes:
            if path.startswith(prefix):
                return endpoint, path.removeprefix(prefix)
        return None, ""

    def _list(self, filters: str) -> Reply:
        parts = [unquote(part) for part in filters.strip("/").split("/")]
        wanted = dict(zip(parts[0::2], parts[1::2], strict=True))
        if illegal := wanted.keys() - {"data_name", "data_version", "status", "limit", "offset"}:
            return _error(370, f"Illegal filter specified {illegal}")
        found = [
            {"did": one.did, "name": one.name, "version": one.version, "status": one.status, "format": one.format}
            for one in self._data_sets
            # The server's database compares names without case.
            if one.name.lower() == wanted["data_name"].lower() and one.status == wanted.get("status", "active")
        ]
        return _json({"data": {"dataset": found}}) if found else _error(372, "No results")

    def _description(self, did: str) -> Reply:
        for one in self._data_sets:
            if str(one.did) == did:
                fields: dict[str, Any] = {
                    "id": did,
                    "name": one.name,
                    "version": str(one.version),
                    "status": one.status,
                    "format": one.format,
                    "licence": "Public",
                    "url": f"{self.url}/data/v1/download/{one.did}/{one.name}.{one.format.lower()}",
                    "file_id": did,
                    "md5_checksum": hashlib.md5(one.content, usedforsecurity=False).hexdigest(),
                }
                fields |= dict(one.description)
                return _json({"data_set_description": {k: v for k, v in fields.items() if v is not None}})
        return _error(111, "Unknown dataset")

    def _file(self, rest: str) -> Reply:
        file_id = rest.partition("/")[0]
        content = next((one.content for one in self._data_sets if str(one.did) == file_id), None)
        return Reply(status=404) if content is None else Reply(content)


def _json(document: object) -> Reply:
    return Reply(json.dumps(document).encode(), headers={"Content-Type": "application/json"})


def _error(code: int, message: str) -> Reply:
    body = json.dumps({"error": {"code": str(code), "message": message}}).encode()
    return Reply(body, status=412, headers={"Content-Type": "application/json"})
