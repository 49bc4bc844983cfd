"""Data sets of OpenML, or of another server that speaks its REST API.

What belongs here: the client. What does not: HTTP and its retries (`download`), ARFF (`arff`).

Sources: the API's description (https://www.openml.org/apis, `openapi/swagger.json` in openml/OpenML) and, where it says
nothing, the server's code (`openml_OS/models/api/v1/Api_data.php` there):

- GET /api/v1/json/data/list/data_name/{name}/status/{status}
  -> {"data": {"dataset": [{"did", "name", "version", ...}]}}
- GET /api/v1/json/data/{id}
  -> {"data_set_description": {"id", "name", "version", "status", "format", "url", "md5_checksum", ...}}
  with numbers as text or, on the next server, as numbers.
- Errors are HTTP 412 (404 on the next server, openml/server-api `docs/migration.md`) with a code: 111 unknown id,
  112 private, 372 nothing matches.

The file that is loaded is the one that `url` and `md5_checksum` describe. The Parquet copy that some descriptions link
as `parquet_url` has no checksum (openml-python pull request 1029) and is often absent (openml/OpenML issue 1151).

openml-python (0.15.1) is not used. Its requests have no timeout and no size limit, and it retries neither 429 nor a 503
with an XML body. It prefers that Parquet copy, without a checksum and over plain HTTP. It caches descriptions for ever,
so that a deactivated data set goes on being loaded, takes the oldest active version of a name where this client takes
the newest, parses numbers (one unreadable value fails the file; here the contract sets the row aside), keeps its server
in module globals and creates folders in HOME when imported.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin

from mlops_assets.data.sources import formats
from mlops_assets.data.sources.arff import read_arff
from mlops_assets.data.sources.base import SourceBatch, content_hash, lower_case_columns
from mlops_assets.data.sources.download import HttpPolicy, download, download_bytes
from mlops_assets.data.sources.limits import DEFAULT_LIMITS, Limits
from mlops_assets.data.sources.locations import is_web, shown
from mlops_assets.errors import SettingsError, SourceError, StorageError

_UNKNOWN_ID, _NO_MATCH = "111", "372"
_MAX_JSON_BYTES = 32 << 20
_FIX_SERVER = "check that the base URL is an OpenML server, not a login page or a proxy, then load again"
_FIX_FILE = "load again later; if it fails again, download the data set by hand and load the file"


@dataclass(frozen=True)
class _Description:
    id: int
    name: str
    version: int
    status: str
    format: str
    url: str
    md5_checksum: str


class OpenMLSource:
    """Yields one data set as one batch.

    Args:
        dataset: Name of the data set, or its id (a number).
        version: Version of a named data set; the newest active one if not given.
        base_url: The server.
        cache_dir: Folder that keeps downloaded files, created if need be. A file in it is used when its MD5 is the one
            that the server names; without a folder every load downloads.
        http: Tries and timeouts of each request.
        limits: How large the file may be.

    Raises:
        SettingsError: An argument can't be used.
    """

    def __init__(
        self,
        dataset: str | int = "CreditCardFraudDetection",
        version: int | None = None,
        base_url: str = "https://www.openml.org",
        cache_dir: Path | None = None,
        *,
        http: HttpPolicy | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self._limits = limits
        self._dataset = str(dataset).strip()
        self._version = version
        self._base_url = base_url.rstrip("/")
        self._cache_dir = cache_dir
        self._http = http or HttpPolicy()
        self._check()

    def _check(self) -> None:
        problem = ""
        if not self._dataset:
            problem = "no data set is named"
        elif self._version is not None and self._version < 1:
            problem = f"version {self._version}: versions count from 1"
        elif self._version is not None and self._dataset.isdecimal():
            problem = f"an id ({self._dataset}) names one version already"
        elif not is_web(self._base_url):
            problem = f"the base URL {shown(self._base_url)!r} is not http(s)"
        if problem:
            raise SettingsError(problem, where="OpenML source", fix="give a name with or without version, or an id")

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the data set; the batch's hash covers the downloaded file's bytes.

        Raises:
            SourceError: The server can't be reached or gives an unusable answer, has no such active data set, or the
                file is damaged or in a format that can't be read.
            SchemaMismatchError: Two columns differ only by case.
            StorageError: The cache folder can't be written.
        """
        described = self._describe(int(self._dataset) if self._dataset.isdecimal() else self._find())
        read = {"arff": read_arff, "parquet": formats.read_parquet}.get(described.format.lower())
        where = f"openml:{described.name}@{described.version}"
        if read is None:
            what = f"the data set's format is {described.format}; dense ARFF and Parquet can be read"
            raise SourceError(what, where=where, fix="choose another version, or convert it by hand and load the file")
        content = self._file(described)
        table = lower_case_columns(read(content, where=where, limits=self._limits), where=where)
        yield SourceBatch(where, content_hash(content), table)

    def _find(self) -> int:
        """Return the id of the requested version of the named data set."""
        active = self._versions("active")
        wanted = max(active, default=None) if self._version is None else self._version
        if wanted is not None and wanted in active:
            return active[wanted]
        deactivated = self._versions("deactivated")
        where = f"{shown(self._base_url)}, data set {self._dataset}"
        known = ", ".join(map(str, sorted(active))) or "none"
        if deactivated and (wanted is None or wanted in deactivated):
            name = "all versions are" if wanted is None else f"version {wanted} is"
            what, fix = f"{name} deactivated by OpenML", f"choose an active version ({known}), or another data set"
        elif active or deactivated:
            what, fix = f"no version {wanted}", f"choose an active version ({known})"
        else:
            what, fix = "no such data set", "compare the name with the one on the server, or give its id"
        raise SourceError(what, where=where, fix=fix)

    def _versions(self, status: str) -> dict[int, int]:
        """Return the ids of all versions of the name with this status, by version."""
        path = f"data/list/data_name/{quote(self._dataset, safe='')}/status/{status}"
        document = self._get(path)
        if document is None:
            return {}
        try:
            entries = [
                (str(entry["name"]), _number(entry, "version"), _number(entry, "did"))
                for entry in document["data"]["dataset"]
            ]
        except (KeyError, TypeError, ValueError):
            raise self._malformed(path, "a list of data sets") from None
        # The server compares names without case.
        exact = {version: did for name, version, did in entries if name == self._dataset}
        alike = {version: did for name, version, did in entries if name.lower() == self._dataset.lower()}
        return exact or alike

    def _describe(self, did: int) -> _Description:
        path = f"data/{did}"
        document = self._get(path)
        if document is None:
            where, fix = f"{shown(self._base_url)}, data set {did}", "compare the id with the one on the server"
            raise SourceError("no such data set", where=where, fix=fix)
        try:
            fields = document["data_set_description"]
            described: _Description | None = _Description(
                id=_number(fields, "id"),
                version=_number(fields, "version"),
                **{name: _text(fields, name) for name in ("name", "status", "format", "url")},
                md5_checksum=_text(fields, "md5_checksum").lower(),
            )
        except (KeyError, TypeError, ValueError):
            described = None
        if described is None or described.id != did or not re.fullmatch(r"[0-9a-f]{32}", described.md5_checksum):
            raise self._malformed(path, "a description with name, version, status, format, url and md5_checksum")
        if described.status != "active":
            where = f"{shown(self._base_url)}, data set {did}"
            what = f"{described.name} version {described.version} is {described.status[:40]}, not active"
            raise SourceError(what, where=where, fix="choose an active version, or another data set")
        return described

    def _get(self, path: str) -> dict[str, Any] | None:
        """Return the API's answer, or None if it says that there is no such data set."""
        url = f"{self._base_url}/api/v1/json/{path}"
        answer, body = download_bytes(url, self._http, max_bytes=_MAX_JSON_BYTES)
        if not answer.ok:
            code, message = _error(answer.body)
            if code in (_UNKNOWN_ID, _NO_MATCH):
                return None
            detail = f", OpenML code {code}: {message}" if code else ""
            what = f"the server refuses (HTTP {answer.status}{detail})"
            raise SourceError(
                what, where=shown(url), fix="compare base URL, name and id; a private data set can't be loaded"
            )
        try:
            document = json.loads(body)
        except ValueError:
            document = None
        if not isinstance(document, dict):
            raise SourceError("the server did not return JSON", where=shown(url), fix=_FIX_SERVER)
        return document

    def _malformed(self, path: str, expected: str) -> SourceError:
        where = f"{shown(self._base_url)}/api/v1/json/{path}"
        return SourceError(f"the server's JSON is not {expected}", where=where, fix=_FIX_SERVER)

    def _file(self, described: _Description) -> bytes:
        """Return the verified data file, from the cache if it is in there."""
        with contextlib.ExitStack() as stack:
            try:
                folder = self._cache_dir or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="openml_")))
                folder.mkdir(parents=True, exist_ok=True)
                # The name is a number and hex digits, so no server can choose a path.
                path = folder / f"openml_{described.id}_{described.md5_checksum}"
                with contextlib.suppress(FileNotFoundError):
                    content = path.read_bytes()
                    if _md5(content) == described.md5_checksum:
                        return content
                return self._downloaded(described, path)
            except OSError as error:
                raise StorageError(
                    f"the folder for downloads can't be used: {error.strerror or error}",
                    where=str(self._cache_dir or tempfile.gettempdir()),
                    fix="make the folder writable, free disk space, or choose another folder",
                ) from error

    def _downloaded(self, described: _Description, path: Path) -> bytes:
        """Download under a temporary name and rename once verified: other processes see a whole file or none."""
        url = urljoin(f"{self._base_url}/", described.url)
        if not is_web(url):
            raise SourceError("the data file's URL is not http(s)", where=shown(url), fix=_FIX_FILE)
        part = path.with_name(f".{path.name}.{uuid.uuid4().hex}.part")
        try:
            with part.open("x+b") as sink:
                answer = download(url, sink, self._http, max_bytes=self._limits.size)
                sink.seek(0)
                content = sink.read()
            if not answer.ok:
                what = f"the data file can't be downloaded (HTTP {answer.status})"
                raise SourceError(what, where=shown(url), fix=_FIX_FILE)
            digest = _md5(content)
            if digest != described.md5_checksum:
                what = f"the downloaded file is not the announced one (MD5 {digest}, not {described.md5_checksum})"
                raise SourceError(what, where=shown(url), fix=_FIX_FILE)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return content


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _number(fields: dict[str, Any], name: str) -> int:
    value = fields[name]
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError(name)
    return int(value)


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or not value.strip():
        raise TypeError(name)
    return " ".join(value.split())


def _error(body: bytes) -> tuple[str, str]:
    """Return code and message of an error answer, empty if it has none; the next server sends them unwrapped."""
    try:
        document = json.loads(body)
        fields = document.get("error", document)
        return str(fields.get("code", "")), str(fields.get("message") or fields.get("detail") or "")[:200]
    except (ValueError, AttributeError):
        # JSON endpoints have been seen to send XML errors (openml/OpenML issue 1200).
        code = re.search(rb"<oml:code>\s*(\d+)\s*</oml:code>", body)
        return (code[1].decode() if code else "", "")
