"""HTTP as ASGI gives it: reading a body within its limit, writing an answer, keys, a rate limit.

What belongs here: what every route needs. What does not: routes (`app`).

Plain ASGI is used, without a framework: the whole of a request's work is then less than a framework's share of it.
"""

from __future__ import annotations

import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, Final

from mlops_assets.serving.answers import Refused

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
JSON: Final = b"application/json"


class DisconnectedError(Exception):
    """The caller is gone."""


async def read_body(scope: Scope, receive: Receive, most: int) -> bytes:
    """Return the body.

    Args:
        scope: The request.
        receive: ASGI's source of its parts.
        most: Bytes that it may have.

    Raises:
        Refused: It is larger (413).
        DisconnectedError: The caller is gone.
    """
    length = header(scope, b"content-length")
    if length.isdigit() and int(length) > most:
        raise Refused(413, "the body is too large", headers=((b"connection", b"close"),))
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        if len(body) > most:
            raise Refused(413, "the body is too large", headers=((b"connection", b"close"),))
        return body
    parts, size = [body], len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > most:
            raise Refused(413, "the body is too large", headers=((b"connection", b"close"),))
    return b"".join(parts)


async def answer(
    send: Send, status: int, body: bytes, kind: bytes = JSON, headers: Sequence[tuple[bytes, bytes]] = ()
) -> None:
    """Send an answer."""
    every = [(b"content-type", kind), (b"content-length", str(len(body)).encode()), *headers]
    await send({"type": "http.response.start", "status": status, "headers": every})
    await send({"type": "http.response.body", "body": body})


def header(scope: Scope, name: bytes) -> bytes:
    """Return the value of a header; empty if it is not there.

    Args:
        scope: The request.
        name: The header, in lower case.
    """
    for found, value in scope["headers"]:
        if found == name:
            return bytes(value)
    return b""


def require_key(scope: Scope, keys: Sequence[bytes]) -> None:
    """Check the caller's key, in constant time.

    Args:
        scope: The request.
        keys: The keys that are accepted; empty if none is asked for.

    Raises:
        Refused: There is none, or another one (401).
    """
    if not keys:
        return
    given = header(scope, b"x-api-key")
    scheme, _, bearer = header(scope, b"authorization").partition(b" ")
    if not given and scheme.lower() == b"bearer":
        given = bearer.strip()
    matches = [hmac.compare_digest(given, key) for key in keys]  # all of them, whichever fits
    if not any(matches):
        raise Refused(401, "a valid key is needed", headers=((b"www-authenticate", b"Bearer"),))


class RateLimit:
    """A token bucket: so many requests a second in the mean, a second's worth at once.

    Args:
        rate: Requests a second; 0 for no limit.
    """

    def __init__(self, rate: float) -> None:
        self._rate, self._left, self._at = rate, max(1.0, rate), time.monotonic()

    def take(self) -> None:
        """Count a request.

        Raises:
            Refused: There were too many (429).
        """
        if not self._rate:
            return
        now = time.monotonic()
        self._left = min(max(1.0, self._rate), self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            raise Refused(429, "too many requests", headers=((b"retry-after", b"1"),))
        self._left -= 1
