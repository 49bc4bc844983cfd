"""Makes recorded calls once more through the methods of an installed databricks-sdk, and compares what is sent.

What belongs here: a script for an environment that has the SDK to ask, and nothing of this project. What does not:
recording the calls (`test_requests`).

It reads a JSON list of calls (`method`, `path`, `query`, `body`) and prints the SDK's version, the methods that were
used, and what is different. Two things are compared:

- on the wire: the SDK builds its data classes from the body (`from_dict`), and what its method then sends to a
  recording server must be the call as it was, so a field that a class does not know, or drops, shows;
- types: each value has the type that the class declares, because `from_dict` takes a text for a number.
"""

from __future__ import annotations

import dataclasses
import enum
import inspect
import io
import json
import re
import sys
import threading
import types
import typing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import metadata
from urllib.parse import parse_qsl, unquote, urlsplit

from databricks.sdk import WorkspaceClient
from databricks.sdk.service import compute, files, iam, jobs, workspace

# The method that makes each call, and the names of its arguments in the path.
METHODS: dict[tuple[str, str], tuple[type, str]] = {
    ("POST", r"/api/2.2/jobs/runs/submit"): (jobs.JobsAPI, "submit"),
    ("POST", r"/api/2.2/jobs/runs/cancel"): (jobs.JobsAPI, "cancel_run"),
    ("GET", r"/api/2.2/jobs/runs/get"): (jobs.JobsAPI, "get_run"),
    ("GET", r"/api/2.2/jobs/runs/get-output"): (jobs.JobsAPI, "get_run_output"),
    ("GET", r"/api/2.2/jobs/runs/list"): (jobs.JobsAPI, "list_runs"),
    ("GET", r"/api/2.1/clusters/get"): (compute.ClustersAPI, "get"),
    ("PATCH", r"/api/2.0/permissions/(?P<request_object_type>clusters)/(?P<request_object_id>[^/]+)"): (
        iam.PermissionsAPI,
        "update",
    ),
    ("GET", r"/api/2.0/preview/scim/v2/Me"): (iam.CurrentUserAPI, "me"),
    ("POST", r"/api/2.0/dbfs/put"): (files.DbfsAPI, "put"),
    ("POST", r"/api/2.0/dbfs/create"): (files.DbfsAPI, "create"),
    ("POST", r"/api/2.0/dbfs/add-block"): (files.DbfsAPI, "add_block"),
    ("POST", r"/api/2.0/dbfs/close"): (files.DbfsAPI, "close"),
    ("POST", r"/api/2.0/dbfs/delete"): (files.DbfsAPI, "delete"),
    ("GET", r"/api/2.0/dbfs/get-status"): (files.DbfsAPI, "get_status"),
    ("GET", r"/api/2.0/dbfs/list"): (files.DbfsAPI, "list"),
    ("GET", r"/api/2.0/dbfs/read"): (files.DbfsAPI, "read"),
    ("PUT", r"/api/2.0/fs/files(?P<file_path>/.*)"): (files.FilesAPI, "upload"),
    ("GET", r"/api/2.0/fs/files(?P<file_path>/.*)"): (files.FilesAPI, "download"),
    ("HEAD", r"/api/2.0/fs/files(?P<file_path>/.*)"): (files.FilesAPI, "get_metadata"),
    ("DELETE", r"/api/2.0/fs/files(?P<file_path>/.*)"): (files.FilesAPI, "delete"),
    ("GET", r"/api/2.0/fs/directories(?P<directory_path>/.*)"): (files.FilesAPI, "list_directory_contents"),
    ("DELETE", r"/api/2.0/fs/directories(?P<directory_path>/.*)"): (files.FilesAPI, "delete_directory"),
    ("POST", r"/api/2.0/workspace/import"): (workspace.WorkspaceAPI, "import_"),
    ("POST", r"/api/2.0/workspace/mkdirs"): (workspace.WorkspaceAPI, "mkdirs"),
    ("POST", r"/api/2.0/workspace/delete"): (workspace.WorkspaceAPI, "delete"),
    ("GET", r"/api/2.0/workspace/list"): (workspace.WorkspaceAPI, "list"),
}
_FLAGS = {"true": True, "false": False}


class Recorder(BaseHTTPRequestHandler):
    """Answers every call and keeps it."""

    seen: typing.ClassVar[list[dict[str, typing.Any]]] = []

    def _record(self) -> None:
        content = self.rfile.read(int(self.headers.get("content-length") or 0))
        parts = urlsplit(self.path)
        is_json = "json" in (self.headers.get("content-type") or "") and content
        Recorder.seen.append(
            {
                "method": self.command,
                "path": unquote(parts.path),
                "query": dict(parse_qsl(parts.query)),
                "body": json.loads(content) if is_json else None,
            }
        )
        answer = b"" if self.command == "HEAD" else b'{"run_id": 1, "handle": 1}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = _record  # noqa: N815 - names that http.server looks up

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name in the base class
        """Stay silent."""


def typed(value: typing.Any, hint: typing.Any) -> typing.Any:
    """Return a JSON value as the SDK's own type: data classes by `from_dict`, enums by value."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return typed(value, next(item for item in arguments if item is not types.NoneType))
    if origin is list:
        return [typed(item, arguments[0]) for item in value]
    if dataclasses.is_dataclass(hint):
        return hint.from_dict(value)  # type: ignore[union-attr]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        return hint(value)
    return value


def mistyped(value: typing.Any, hint: typing.Any, where: str) -> list[str]:
    """Return the places of a JSON value that do not have the declared type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return mistyped(value, next(item for item in arguments if item is not types.NoneType), where)
    if origin is list and isinstance(value, list):
        return [line for at, item in enumerate(value) for line in mistyped(item, arguments[0], f"{where}[{at}]")]
    if origin is dict and isinstance(value, dict):
        return [line for name, item in value.items() for line in mistyped(item, arguments[1], f"{where}.{name}")]
    if dataclasses.is_dataclass(hint) and isinstance(value, dict):
        hints = typing.get_type_hints(hint)
        known = [(name, item) for name, item in value.items() if name in hints]
        return [line for name, item in known for line in mistyped(item, hints[name], f"{where}.{name}")]
    if isinstance(hint, type) and issubclass(hint, enum.Enum):
        fits = value in {member.value for member in hint}
    else:
        fits = hint in (str, int, bool) and type(value) is hint
    return [] if fits else [f"{where}: {value!r} is no {getattr(hint, '__name__', hint)}"]


def from_query(text: str, hint: typing.Any) -> typing.Any:
    """Return a query parameter as its type."""
    kinds = [item for item in typing.get_args(hint) or (hint,) if item is not types.NoneType]
    if kinds[0] is bool:
        return _FLAGS[text]
    return typed(int(text) if kinds[0] is int else text, hint)


def judge(client: WorkspaceClient, call: dict[str, typing.Any]) -> tuple[str, list[str]]:
    """Make a call through the SDK and return the method's name and the differences."""
    where = f"{call['method']} {call['path']}"
    matches = (
        (re.fullmatch(pattern, call["path"]), made_by)
        for (method, pattern), made_by in METHODS.items()
        if method == call["method"]
    )
    match, (api, name) = next(((match, made_by) for match, made_by in matches if match), (None, (object, "")))
    if match is None:
        return "", [f"{where}: the SDK has no method for it"]
    hints = typing.get_type_hints(getattr(api, name))
    body, query = call["body"] or {}, call["query"] or {}
    unknown = sorted((set(body) | set(query)) - set(inspect.signature(getattr(api, name)).parameters))
    if unknown:
        return name, [f"{where}: unknown to the SDK: {', '.join(unknown)}"]
    found = []
    for field, value in body.items():
        found += [f"{where}: {line}" for line in mistyped(value, hints[field], field)]
    try:
        arguments = {field: typed(value, hints[field]) for field, value in body.items()}
    except ValueError as error:
        return name, [*found, f"{where}: {error}"]
    arguments |= {field: from_query(text, hints[field]) for field, text in query.items()} | match.groupdict()
    if name == "upload":
        arguments["contents"] = io.BytesIO(b"x")
    answer = getattr(api(client.api_client), name)(**arguments)
    if isinstance(answer, typing.Iterator):
        next(answer, None)
    sent = Recorder.seen[-1]
    wanted = {part: call[part] or ({} if part == "query" else None) for part in ("method", "path", "query", "body")}
    found += [
        f"{where}: {part}: ours {wanted[part]!r}, the SDK's {sent[part]!r}"
        for part in wanted
        if sent[part] != wanted[part]
    ]
    return name, found


def main() -> None:
    """Judge the calls of stdin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Recorder)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = WorkspaceClient(host=f"http://127.0.0.1:{server.server_port}", token="x")  # noqa: S106 - of nothing
    judged = [judge(client, call) for call in json.load(sys.stdin)]
    server.shutdown()
    report = {
        "sdk": metadata.version("databricks-sdk"),
        "methods": sorted({name for name, _ in judged if name}),
        "different": [line for _, found in judged for line in found],
    }
    json.dump(report, sys.stdout)


if __name__ == "__main__":
    main()
