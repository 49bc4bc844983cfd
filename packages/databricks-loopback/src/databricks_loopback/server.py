"""The HTTP server on 127.0.0.1: reads a request, checks the token, injects faults, answers, records the call.

What belongs here: sockets and the order of those steps. What does not: any endpoint (`api`), any state.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from databricks_loopback.auth import Tokens
from databricks_loopback.calls import CallLog
from databricks_loopback.errors import LoopbackError
from databricks_loopback.faults import CallFault, ConnectionDropped, Faults
from databricks_loopback.rates import Rates
from databricks_loopback.routing import Router
from databricks_loopback.wire import ApiError, Reply, Request

_BODILESS = (204, 304)


class LoopbackServer:
    """Serves a router on a port of 127.0.0.1 until `stop`.

    Args:
        tokens: The accepted tokens.
        faults: The faults to inject.
        calls: The record of all calls.
        port: The port; 0 takes a free one.
        rates: Limits of calls per second, if there are any.

    Attributes:
        bugs: Tracebacks of failures in the emulator itself; a test must not ignore them.

    Raises:
        LoopbackError: The port can't be opened.
    """

    def __init__(
        self, tokens: Tokens, faults: Faults, calls: CallLog, port: int = 0, rates: Rates | None = None
    ) -> None:
        self._tokens, self._faults, self._calls, self._rates = tokens, faults, calls, rates
        self._router = Router(())
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.bugs: list[str] = []
        try:
            self._http = _Http(self, port)
        except (OSError, OverflowError) as error:
            fix = "give another port, or 0 for a free one"
            raise LoopbackError(f"the port can't be opened: {error}", where=f"127.0.0.1:{port}", fix=fix) from error
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.05,), name="loopback-workspace")

    @property
    def url(self) -> str:
        """Address of the workspace, `http://127.0.0.1:PORT`."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    def start(self, router: Router) -> None:
        """Start to answer calls with the endpoints of `router`."""
        self._router = router
        self._thread.start()

    def stop(self) -> None:
        """Refuse new connections and close those that clients keep open."""
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                # Closing would free the descriptor under the thread that reads it; shutting down wakes that thread.
                _hang_up(connection)
            self._connections.clear()

    def handle(self, request: Request) -> Reply:
        """Answer one request and record it.

        Raises:
            ConnectionDropped: A fault closes the connection instead of answering.
        """
        started = time.monotonic()
        fault = self._faults.match(request)
        reply: Reply | None = None
        try:
            reply = self._answer(request, fault)
        finally:
            name = fault.name if fault else ""
            user = self._tokens.user_of(request.headers.get("authorization", ""))
            self._calls.record(request, reply, user=user, fault=name, seconds=time.monotonic() - started)
        return reply

    def _answer(self, request: Request, fault: CallFault | None) -> Reply:
        try:
            if fault is not None:
                return fault.play(request, lambda: self._answer(request, None))
            route, parts = self._router.find(request.method, request.path)
            if not route.public:
                request = replace(request, user=self._tokens.check(request.headers.get("authorization", "")))
                if self._rates is not None:
                    self._rates.check(request)
            return route.handler(request, parts)
        except ApiError as error:
            return error.reply()
        except ConnectionDropped:
            raise
        except Exception:  # noqa: BLE001 - a bug in the emulator must reach the test, which runs in another thread
            self.bugs.append(f"{request.method} {request.path}\n{traceback.format_exc()}")
            return ApiError(500, "EMULATOR_BUG", traceback.format_exc()).reply()

    def opened(self, connection: socket.socket) -> None:
        """Register a connection, which a client may keep open for many calls."""
        with self._lock:
            self._connections.add(connection)

    def closed(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._lock:
            self._connections.discard(connection)


class _Http(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, owner: LoopbackServer, port: int) -> None:
        self.owner = owner
        super().__init__(("127.0.0.1", port), _Handler)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 - the base class's names
        """Ignore a client that did not wait for its answer; any other error is a bug in the emulator."""
        if not isinstance(sys.exception(), ConnectionError):
            self.owner.bugs.append(traceback.format_exc())


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body leave in two writes; with Nagle's algorithm each answer would wait 40 ms for an ACK.
    disable_nagle_algorithm = True
    server: _Http

    def setup(self) -> None:
        self.server.owner.opened(self.request)
        super().setup()

    def finish(self) -> None:
        super().finish()
        self.server.owner.closed(self.request)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
        """Write nothing: `CallLog` has all calls."""

    def serve(self) -> None:
        try:
            self._send(self.server.owner.handle(self._read()))
        except ConnectionDropped:
            self.close_connection = True
            _hang_up(self.connection)

    def _read(self) -> Request:
        target = urlsplit(self.path)
        return Request(
            method=self.command,
            path=unquote(target.path),
            query=dict(parse_qsl(target.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in self.headers.items()},
            body=b"".join(self._chunks()),
        )

    def _chunks(self) -> Iterator[bytes]:
        if "chunked" not in self.headers.get("Transfer-Encoding", ""):
            yield self.rfile.read(int(self.headers.get("Content-Length") or 0))
            return
        # RFC 9112, 7.1; requests sends an empty stream this way.
        while size := int(self.rfile.readline().split(b";")[0], 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass

    def _send(self, reply: Reply) -> None:
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if reply.status not in _BODILESS:  # the answer to HEAD has the length of that to GET
            self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        if self.command != "HEAD" and reply.status not in _BODILESS:
            self.wfile.write(reply.body)


def _hang_up(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):  # the client may have closed it first
        connection.shutdown(socket.SHUT_RDWR)


for _verb in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"):
    setattr(_Handler, f"do_{_verb}", _Handler.serve)
