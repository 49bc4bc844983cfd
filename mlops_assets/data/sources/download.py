"""HTTP downloads, bounded in tries and in time, that deliver the whole body or none.

What belongs here: one GET with retries, and readable errors. What does not: what is downloaded (`files`, `openml`).
The HTTP library's own messages are never passed on: they repeat URLs, and URLs can hold secrets.

Redirects are followed by hand: a server may lead on to public addresses only (`addresses`), and not on and on.
Lost connections, timeouts, cut-off bodies, 429 and 5xx are retried, with pauses that double or that the server asks for
(Retry-After, RFC 9110 section 10.2.3). Other answers are final.
"""

from __future__ import annotations

import email.utils
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from io import BytesIO
from typing import Any, BinaryIO, Final
from urllib.parse import urljoin

import requests
from requests.utils import get_auth_from_url
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, stop_before_delay, wait_exponential
from urllib3.exceptions import HTTPError, NameResolutionError, NewConnectionError, ReadTimeoutError, SSLError

from mlops_assets.data.sources.addresses import PrivateAddressError, PublicOnly, is_same_server
from mlops_assets.data.sources.locations import shown
from mlops_assets.errors import SettingsError, SourceError, UnreachableError

_CHUNK_BYTES = 1 << 16
_ERROR_BODY_BYTES = 1 << 16
_MAX_HOPS: Final = 5
_BROKEN = "the connection broke before the answer was complete"
_MEND_CERTIFICATE = "install the certificate authority that the server, or your proxy, uses (REQUESTS_CA_BUNDLE)"
_PRIVATE = "the server redirects to an address of this machine or of a private network"
_MEND_PRIVATE = "configure that address itself if it is the right one"
_MEND_URL = "use the http:// or https:// address of the file itself"
_MEND_SERVER = "check that the server is up and reachable from here (proxy, firewall), then load again"


@dataclass(frozen=True)
class HttpPolicy:
    """How often and for how long a download is tried.

    Attributes:
        tries: How many times a request is sent at most.
        backoff: Seconds before the second try; doubled before each further one.
        connect_timeout: Seconds to wait for a connection.
        read_timeout: Seconds to wait for the next bytes.
        total_timeout: Seconds that one download may take with all its tries and pauses.

    Raises:
        SettingsError: A number is not positive.
    """

    tries: int = 5
    backoff: float = 1.0
    connect_timeout: float = 10.0
    read_timeout: float = 60.0
    total_timeout: float = 1800.0

    def __post_init__(self) -> None:
        """Reject numbers with which no request could be sent."""
        if self.tries < 1 or min(self.backoff, self.connect_timeout, self.read_timeout, self.total_timeout) <= 0:
            raise SettingsError(
                "tries, back-off and timeouts of a download must be positive",
                where=str(self),
                fix="choose larger numbers",
            )


@dataclass(frozen=True)
class Answer:
    """A final answer: 2xx, or an error that trying again won't change.

    Attributes:
        status: HTTP status.
        body: The body of a 4xx answer, cut at 64 KiB; of a 2xx answer nothing, it went into the sink.
    """

    status: int
    body: bytes = b""

    @property
    def ok(self) -> bool:
        """Whether the sink holds the whole body."""
        return 200 <= self.status < 300  # noqa: PLR2004 - the range of success


@dataclass(frozen=True)
class _Failure:
    reason: str
    fix: str = _MEND_SERVER
    final: bool = False
    retry_after: float | None = None


def download(url: str, sink: BinaryIO, policy: HttpPolicy, *, max_bytes: int | None = None) -> Answer:
    """Send a GET request and write the body into `sink`.

    Args:
        url: An http or https URL; redirects lead to such URLs, of this server or of public ones. User and password in
            it are sent (basic access), to this server only.
        sink: Seekable file; emptied before each try.
        policy: Tries and timeouts.
        max_bytes: Refuse a longer body.

    Returns:
        The answer; `sink` is complete if it is `ok`. A body shorter than the server announced counts as a failed try.

    Raises:
        UnreachableError: No answer within the policy.
        SourceError: A redirect to something else or into a private network, a bad certificate, a body over `max_bytes`.
    """
    deadline = time.monotonic() + policy.total_timeout
    doubling = wait_exponential(multiplier=policy.backoff)

    def pause(state: RetryCallState) -> float:
        asked = _failure(state).retry_after
        return doubling(state) if asked is None else asked

    retrying = Retrying(
        retry=retry_if_result(lambda outcome: isinstance(outcome, _Failure) and not outcome.final),
        wait=pause,
        stop=stop_after_attempt(policy.tries) | stop_before_delay(policy.total_timeout),
        retry_error_callback=lambda state: _given_up(_failure(state), state.attempt_number, policy.tries),
    )
    with requests.Session() as session:
        outcome: Answer | _Failure = retrying(
            _attempt, session, url, sink, policy=policy, deadline=deadline, max_bytes=max_bytes
        )
    if isinstance(outcome, Answer):
        return outcome
    kind = SourceError if outcome.final else UnreachableError
    raise kind(outcome.reason, where=shown(url), fix=outcome.fix, transient=not outcome.final)


def _failure(state: RetryCallState) -> _Failure:
    failure: _Failure = state.outcome.result()  # type: ignore[union-attr]  # asked for only after a failed try
    return failure


def _given_up(failure: _Failure, tried: int, tries: int) -> _Failure:
    why = "" if tried >= tries else "; no time is left for another try"
    return replace(failure, reason=f"{failure.reason}{why} ({tried} {'try' if tried == 1 else 'tries'})")


def _attempt(
    session: requests.Session,
    url: str,
    sink: BinaryIO,
    *,
    policy: HttpPolicy,
    deadline: float,
    max_bytes: int | None,
) -> Answer | _Failure:
    sink.seek(0)
    sink.truncate()
    remaining = max(deadline - time.monotonic(), 0.001)
    timeout = (min(policy.connect_timeout, remaining), min(policy.read_timeout, remaining))
    # A compressed file must arrive as it is: some servers declare its own compression as one of the transfer.
    packed = url.partition("?")[0].lower().endswith(".gz")
    headers = {"User-Agent": "mlops_assets", "Accept-Encoding": "identity" if packed else "gzip"}
    hops = [url]
    try:
        while len(hops) <= _MAX_HOPS:
            answer = _get(session, hops, timeout=timeout, headers=headers)
            with answer as response:
                if (following := response.headers.get("Location")) and response.is_redirect:
                    hops.append(urljoin(hops[-1], following))
                    continue
                return _taken(response, sink, deadline, max_bytes, decode=not packed)
    except (requests.RequestException, HTTPError) as error:
        return _explained(error, timeout)
    return _Failure("the server redirects in a loop", final=True)


def _get(session: requests.Session, hops: list[str], **how: Any) -> requests.Response:
    """Ask the last of the URLs; all but the first are what servers have answered."""
    here, first = hops[-1], hops[0]
    if is_same_server(first, here):
        # As a redirect to the same server goes on with the same user; otherwise none is sent.
        how["auth"] = get_auth_from_url(first) if any(get_auth_from_url(first)) else None
    else:
        session = requests.Session()
        session.mount("http://", PublicOnly())
        session.mount("https://", PublicOnly())
    return session.get(here, stream=True, allow_redirects=False, **how)


def _taken(
    response: requests.Response, sink: BinaryIO, deadline: float, max_bytes: int | None, *, decode: bool
) -> Answer | _Failure:
    status = response.status_code
    if status == requests.codes.too_many_requests or status >= requests.codes.internal_server_error:
        return _Failure(f"the server answers HTTP {status}", retry_after=_retry_after(response.headers))
    if status >= requests.codes.bad_request:
        return Answer(status, _error_body(response, deadline))
    if status >= requests.codes.multiple_choices:
        return _Failure(f"the server redirects (HTTP {status}) without a Location", final=True)
    return _save(response, sink, deadline, max_bytes, decode=decode)


def _chunks(response: requests.Response, deadline: float, *, decode: bool) -> Iterator[bytes]:
    """Yield the body as it arrives, until its end or the deadline.

    read1 returns what has arrived instead of waiting for a full chunk, so a slow server can't outlast the deadline.
    """
    while (chunk := response.raw.read1(_CHUNK_BYTES, decode_content=decode)) and time.monotonic() < deadline:
        yield chunk


def _save(
    response: requests.Response, sink: BinaryIO, deadline: float, max_bytes: int | None, *, decode: bool
) -> Answer | _Failure:
    size = 0
    for chunk in _chunks(response, deadline, decode=decode):
        size += sink.write(chunk)
        if max_bytes is not None and size > max_bytes:
            fix = "check that the URL is the right one"
            return _Failure(f"the answer is longer than {max_bytes:,} bytes", fix, final=True)
    if time.monotonic() >= deadline:
        fix = "load again when the connection is better"
        return _Failure(f"timeout: only {size:,} bytes had arrived in the time for this download", fix, final=True)
    return Answer(response.status_code)


def _error_body(response: requests.Response, deadline: float) -> bytes:
    body = b""
    for chunk in _chunks(response, deadline, decode=True):
        body += chunk
        if len(body) >= _ERROR_BODY_BYTES:
            break
    return body


def _explained(error: Exception, timeout: tuple[float, float]) -> _Failure:
    """Describe the error without the library's text; the first kind that fits is the most specific."""
    known: list[tuple[tuple[type[Exception], ...], _Failure]] = [
        ((PrivateAddressError,), _Failure(_PRIVATE, _MEND_PRIVATE, final=True)),
        ((requests.exceptions.SSLError, SSLError), _Failure("the TLS connection fails", _MEND_CERTIFICATE, final=True)),
        ((requests.ConnectTimeout,), _Failure(f"timeout: no connection within {timeout[0]:.3g} s")),
        ((requests.Timeout, ReadTimeoutError), _Failure(f"timeout: no data for {timeout[1]:.3g} s")),
        # InvalidSchema, InvalidURL, MissingSchema and urllib3's own for a host that can't be one.
        ((ValueError,), _Failure("not an http(s) URL, or a redirect to something else", _MEND_URL, final=True)),
        ((requests.exceptions.ProxyError,), _Failure("the proxy can't be reached, or refuses the connection")),
        ((requests.exceptions.ChunkedEncodingError,), _Failure(_BROKEN)),
        ((requests.ConnectionError,), _Failure(_no_connection(error))),
    ]
    return next((failure for kinds, failure in known if isinstance(error, kinds)), _Failure(_BROKEN))


def _no_connection(error: Exception) -> str:
    cause = getattr(error.args[0], "reason", None) if error.args else None
    if isinstance(cause, NameResolutionError):
        return "the host's name can't be resolved"
    return "no connection to the host" if isinstance(cause, NewConnectionError) else _BROKEN


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that the server asks to wait, or None if it does not say."""
    text = headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        moment = email.utils.parsedate_to_datetime(text)
    except ValueError:
        return None
    moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return max((moment - datetime.now(UTC)).total_seconds(), 0.0)


def download_bytes(url: str, policy: HttpPolicy, *, max_bytes: int | None = None) -> tuple[Answer, bytes]:
    """Download into memory; see `download`.

    Returns:
        The answer and the whole body of a 2xx answer, empty for others.
    """
    sink = BytesIO()
    answer = download(url, sink, policy, max_bytes=max_bytes)
    return answer, sink.getvalue() if answer.ok else b""
