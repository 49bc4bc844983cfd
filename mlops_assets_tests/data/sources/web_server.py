"""A loopback web server whose every answer is scripted, wrong ones included."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self


@dataclass(frozen=True)
class Reply:
    """One answer.

    Attributes:
        body: What is sent.
        status: HTTP status.
        headers: Further headers.
        delay: Seconds before the answer begins.
        cut: Send only so many bytes of the body, though all of it is announced, and hang up.
        drip: Seconds between single bytes of the body.
        hang_up: Close the connection instead of answering.
    """

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    drip: float = 0.0
    hang_up: bool = False


@dataclass(frozen=True)
class SeenRequest:
    """What a client asked for: the path with its query, the headers (lower-cased names), and what it sent."""

    path: str
    headers: Mapping[str, str]
    body: bytes = b""


class WebServer:
    """Serves scripted replies on 127.0.0.1; use it as a context manager.

    Attributes:
        seen: All requests so far, in order.
    """

    def __init__(self) -> None:
        self.seen: list[SeenRequest] = []
        self._replies: dict[str, list[Reply]] = {}
        self._stopped = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """Base URL, without a slash at the end."""
        return f"http://{self.netloc}"

    @property
    def netloc(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._http.server_port}"

    def serve(self, path: str, *replies: Reply | bytes) -> str:
        """Answer requests for `path` with these replies in turn, the last one again and again; return the URL."""
        self._replies[path] = [reply if isinstance(reply, Reply) else Reply(reply) for reply in replies]
        return self.url + path

    def reply_to(self, path: str) -> Reply:
        """Return the reply to a path (without its query)."""
        replies = self._replies.get(path, [Reply(status=404)])
        return replies.pop(0) if len(replies) > 1 else replies[0]

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopped.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                server.seen.append(_seen(self))
                reply = server.reply_to(self.path.partition("?")[0])
                if server._stopped.wait(reply.delay) or reply.hang_up:
                    return
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.body)))
                self.end_headers()
                _write(self, reply, server._stopped)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                pass

        return Handler


def _seen(request: BaseHTTPRequestHandler) -> SeenRequest:
    sent = request.rfile.read(int(request.headers.get("Content-Length", 0)))
    return SeenRequest(request.path, {name.lower(): value for name, value in request.headers.items()}, sent)


def _write(request: BaseHTTPRequestHandler, reply: Reply, stopped: threading.Event) -> None:
    try:
        if not reply.drip:
            request.wfile.write(reply.body[: reply.cut])
            return
        for position in range(len(reply.body)):
            request.wfile.write(reply.body[position : position + 1])
            if stopped.wait(reply.drip):
                return
    except OSError:
        return  # the client had enough
