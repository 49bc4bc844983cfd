"""From the capture tables of other servers to rows of the log: Databricks' inference tables, SageMaker's files.

What belongs here: their forms, read as rows. What does not: where they lie, and the commit (`origin`, `table`).

Both capture a request and its answer as text, in MLflow's protocol, and know nothing of decisions: these rows have a
score, and neither threshold nor policy. A captured request may hold several rows.

Forms: Databricks, "Inference tables for monitoring and debugging models" (until 2026) and "AI Gateway-enabled inference
tables" (since); SageMaker, "Data capture" (Model Monitor), files of JSON lines.
"""

from __future__ import annotations

import base64
import binascii
import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlops_assets.serving.answers import Refused
from mlops_assets.serving.features import FeatureReader
from mlops_assets.serving.log.record import LogRow, encode
from mlops_assets.serving.mlflow_protocol import read

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract

_JSON, _CSV = "application/json", "text/csv"
_OK: Final = 200


class UnreadableCaptureError(Exception):
    """A captured request that is no rows of the log; its text repeats none of its values."""


@dataclass(frozen=True)
class _Exchange:
    """A captured request and its answer."""

    request_id: str
    at: int
    request: bytes
    request_type: str
    answer: bytes
    answer_type: str
    status: int = _OK
    latency_us: int = 0
    version: int = 0


def from_databricks(captured: Mapping[str, Any], contract: Contract, model: str) -> list[bytes]:
    """Return the rows of one row of an inference table.

    Args:
        captured: The row by column, of either form.
        contract: What a row must be.
        model: Name of the registered model.

    Raises:
        UnreadableCaptureError: It lacks a column, or its texts are not MLflow's protocol.
    """
    try:
        when, took = captured.get("request_time"), captured.get("execution_duration_ms")
        at = int(when.timestamp() * 1e6) if isinstance(when, datetime) else int(captured["timestamp_ms"]) * 1_000
        about = dict(captured.get("request_metadata") or {})
        exchange = _Exchange(
            request_id=str(captured["databricks_request_id"]),
            at=at,
            request=str(captured["request"] or "").encode(),
            request_type=_JSON,
            answer=str(captured["response"] or "").encode(),
            answer_type=_JSON,
            status=int(captured["status_code"]),
            latency_us=int(1_000 * (took if took is not None else captured.get("execution_time_ms") or 0)),
            version=int(about.get("model_version") or 0),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UnreadableCaptureError(f"no row of an inference table ({type(error).__name__})") from None
    return list(_rows(exchange, contract, model))


def from_sagemaker(line: bytes, contract: Contract, model: str) -> list[bytes]:
    """Return the rows of one line of a capture file.

    Args:
        line: The line.
        contract: What a row must be.
        model: Name of the registered model.

    Raises:
        UnreadableCaptureError: It is no captured event, or its texts are not MLflow's protocol.
    """
    try:
        document = msgspec.json.decode(line)
        data, about = document["captureData"], document["eventMetadata"]
        sent, got = data["endpointInput"], data["endpointOutput"]
        exchange = _Exchange(
            request_id=str(about["eventId"]),
            at=int(datetime.fromisoformat(about["inferenceTime"]).timestamp() * 1e6),
            request=_content(sent),
            request_type=str(sent["observedContentType"]),
            answer=_content(got),
            answer_type=str(got["observedContentType"]),
        )
    except (msgspec.DecodeError, KeyError, TypeError, ValueError) as error:
        raise UnreadableCaptureError(f"no captured event ({type(error).__name__})") from None
    return list(_rows(exchange, contract, model))


def _content(part: Mapping[str, Any]) -> bytes:
    text = str(part["data"])
    if part["encoding"] == "BASE64":
        try:
            return base64.b64decode(text, validate=True)
        except binascii.Error:
            raise ValueError from None
    return text.encode()


def _rows(exchange: _Exchange, contract: Contract, model: str) -> Iterator[bytes]:
    common: dict[str, Any] = {
        "request_id": exchange.request_id,
        "model": model,
        "at": exchange.at,
        "contract": contract.versioned_name,
        "version": exchange.version,
        "latency_us": exchange.latency_us,
        "status": exchange.status,
    }
    if exchange.status != _OK:
        yield encode(LogRow(arm="refused", **common))
        return
    try:
        columns = read(exchange.request, exchange.request_type)
    except Refused as refused:
        raise UnreadableCaptureError(f"request: {refused}") from None
    scores = _scores(exchange.answer, exchange.answer_type)
    if len(scores) != columns.rows:
        raise UnreadableCaptureError("the answer has another number of rows than the request")
    checked = FeatureReader(contract).check(columns.values, columns.rows, {}, text=columns.text)
    for number, score in enumerate(scores):
        # What broke the contract and was answered all the same is no row that could be scored again.
        found = [f"{finding.reason}:{finding.name}" for finding in checked.bad.get(number, ())]
        features = None if found else {name: values[number] for name, values in checked.values.items()}
        yield encode(LogRow(arm="captured", row=number, features=features, score=score, findings=found, **common))


def _scores(answer: bytes, kind: str) -> Sequence[float]:
    try:
        if kind.partition(";")[0].strip().lower() == _CSV:
            return [float(row[0]) for row in csv.reader(io.StringIO(answer.decode())) if row]
        document = msgspec.json.decode(answer)
        found: Iterable[Any] = document["predictions"] if isinstance(document, dict) else document
        return [float(score[0]) if isinstance(score, list) else float(score) for score in found]
    except (msgspec.DecodeError, KeyError, TypeError, ValueError, IndexError) as error:
        raise UnreadableCaptureError(f"the answer holds no scores ({type(error).__name__})") from None
