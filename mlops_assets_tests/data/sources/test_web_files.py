from __future__ import annotations

import base64
import email.utils
import gzip
import io
import time
import traceback

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.download import HttpPolicy
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SettingsError, SourceError
from mlops_assets_tests.data.sources.web_server import Reply, WebServer

HIDDEN = "hidden"
TEXT = b"Time,Amount\n0,1.50\n1,2.50\n"


def _read(location: str, policy: HttpPolicy) -> list[SourceBatch]:
    return list(FilesSource(location, http=policy).batches())


def test_csv_gzip_and_parquet_over_http(web: WebServer, hasty: HttpPolicy):
    parquet = io.BytesIO()
    pq.write_table(pa.table({"Time": [5.0]}), parquet)
    urls = [
        web.serve("/a.csv", TEXT),
        web.serve("/b.csv.gz", gzip.compress(TEXT)),
        web.serve("/c.parquet", parquet.getvalue()),
    ]

    batches = _read(",".join(urls), hasty)

    assert [batch.origin for batch in batches] == urls
    assert batches[0].content_hash == batches[1].content_hash
    assert batches[0].table.to_pydict() == {"time": ["0", "1"], "amount": ["1.50", "2.50"]}
    assert batches[2].table.equals(pa.table({"time": [5.0]}))


def test_compression_of_the_transfer_is_undone_but_not_that_of_the_file(web: WebServer, hasty: HttpPolicy):
    packed = Reply(gzip.compress(TEXT), headers={"Content-Encoding": "gzip"})
    urls = [web.serve("/a.csv", packed), web.serve("/a.csv.gz", packed)]

    hashes = [batch.content_hash for batch in _read(",".join(urls), hasty)]

    assert hashes[0] == hashes[1]


def test_credentials_and_query_are_sent_and_never_shown(web: WebServer, hasty: HttpPolicy):
    web.serve("/a.csv", TEXT)

    (batch,) = _read(f"http://user:{HIDDEN}@{web.netloc}/a.csv?sig={HIDDEN}", hasty)

    assert batch.origin == f"{web.url}/a.csv"
    assert web.seen[0].path == f"/a.csv?sig={HIDDEN}"
    assert web.seen[0].headers["authorization"] == "Basic " + base64.b64encode(f"user:{HIDDEN}".encode()).decode()


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(status=404), r"no such file \(HTTP 404\)"),
        (Reply(status=401), r"access is denied \(HTTP 401\)"),
        (Reply(status=403), r"access is denied \(HTTP 403\)"),
        (Reply(status=410), r"the server refuses \(HTTP 410\)"),
        (Reply(status=304), "HTTP 304"),
        (Reply(b""), r"empty \(0 bytes\)"),
        (Reply(b"<html><body>\nlog in, please\n</body></html>"), "row|header"),
        (Reply(status=500), r"HTTP 500 \(3 tries\)"),
        (Reply(TEXT, cut=9), r"broke before the answer was complete \(3 tries\)"),
        (Reply(hang_up=True), r"broke before the answer was complete \(3 tries\)"),
        (Reply(TEXT, headers={"Content-Encoding": "gzip"}), "broke"),
        (Reply(status=302, headers={"Location": "file:///etc/hostname"}), "redirect to something else"),
        (Reply(status=302, headers={"Location": "/a.csv"}), "redirects in a loop"),
        (Reply(status=429, headers={"Retry-After": "3600"}), "HTTP 429; no time is left for another try"),
    ],
    ids=lambda value: "" if isinstance(value, str) else None,
)
def test_what_the_server_does_wrong_is_told_without_secrets(
    web: WebServer, hasty: HttpPolicy, reply: Reply, problem: str
):
    web.serve("/a.csv", reply)

    with pytest.raises(SourceError, match=problem) as raised:
        _read(f"http://user:{HIDDEN}@{web.netloc}/a.csv?sig={HIDDEN}", hasty)

    assert raised.value.where == f"{web.url}/a.csv"
    assert HIDDEN not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (Reply(TEXT, delay=9), r"timeout: no data for 0\.3 s \(2 tries\)"),
        (Reply(TEXT * 10, drip=0.1), r"timeout: only \d+ bytes had arrived in the time"),
    ],
    ids=["silent", "dripping"],
)
def test_a_slow_server_is_given_up(web: WebServer, impatient: HttpPolicy, reply: Reply, problem: str):
    url = web.serve("/a.csv", reply)
    started = time.monotonic()

    with pytest.raises(SourceError, match=problem):
        _read(url, impatient)
    assert time.monotonic() - started < 5, "the answers take 9 s and more, the policy gives them 1 s in all"


@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=503),
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(status=503, headers={"Retry-After": "soon"}),
        Reply(status=503, headers={"Retry-After": email.utils.formatdate(0, usegmt=True)}),
        Reply(TEXT, cut=9),
        Reply(hang_up=True),
    ],
)
def test_a_passing_fault_is_survived(web: WebServer, hasty: HttpPolicy, bad: Reply):
    url = web.serve("/a.csv", bad, bad, Reply(TEXT))

    assert _read(url, hasty)[0].table.num_rows == 2
    assert len(web.seen) == 3


def test_pauses_are_as_long_as_asked_for(web: WebServer):
    url = web.serve("/a.csv", Reply(status=429, headers={"Retry-After": "1"}), Reply(TEXT))
    started = time.monotonic()

    assert _read(url, HttpPolicy(backoff=30.0))[0].table.num_rows == 2
    assert 1.0 <= time.monotonic() - started < 5.0


def test_redirects_are_followed(web: WebServer, hasty: HttpPolicy):
    web.serve("/new.csv", TEXT)
    url = web.serve("/a.csv", Reply(status=302, headers={"Location": "/new.csv"}))

    assert _read(url, hasty)[0].origin == url


def test_a_dead_host_and_an_unknown_one_are_refused(dead_url: str, hasty: HttpPolicy):
    with pytest.raises(SourceError, match=r"no connection to the host \(3 tries\)"):
        _read(f"{dead_url}/a.csv", hasty)
    with pytest.raises(SourceError, match=r"name can't be resolved|no connection"):
        _read("http://nowhere.invalid/a.csv", hasty)


def test_a_tls_failure_is_not_tried_again(web: WebServer, hasty: HttpPolicy):
    with pytest.raises(SourceError, match=r"the TLS connection fails \["):
        _read(f"https://{web.netloc}/a.csv", hasty)


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("http://127.0.0.1/data/", "web servers can't list folders"),
        ("http://127.0.0.1/data/*.csv", "web servers can't list folders"),
        ("http://127.0.0.1/data.xlsx", "unknown kind"),
        ("http://[half/a.csv", "not a URL"),
        ("http:///a.csv", r"not an http\(s\) URL"),
    ],
)
def test_urls_that_are_no_files_are_refused(url: str, problem: str, hasty: HttpPolicy):
    with pytest.raises(SourceError, match=problem):
        _read(url, hasty)


@pytest.mark.parametrize("bad", [{"tries": 0}, {"backoff": 0.0}, {"total_timeout": -1.0}])
def test_a_policy_without_a_try_is_refused(bad: dict[str, float]):
    with pytest.raises(SettingsError, match="must be positive"):
        HttpPolicy(**bad)  # type: ignore[arg-type]
