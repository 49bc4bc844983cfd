"""Captures of other servers become rows of the log: each once, in the forms that their makers document."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from mlops_assets.errors import SettingsError, StorageError
from mlops_assets.serving.log.captured import UnreadableCaptureError, from_databricks, from_sagemaker
from mlops_assets.serving.log.origin import LogOrigin
from mlops_assets.serving.log.record import decode
from mlops_assets_tests.serving.kit import GOOD, contract

REQUEST = json.dumps({"dataframe_records": [GOOD, GOOD | {"amount": 99.5}]})
ANSWER = json.dumps({"predictions": [0.25, 0.75]})
LEGACY: dict[str, Any] = {
    "databricks_request_id": "d-1", "client_request_id": None, "date": datetime(2026, 3, 1, tzinfo=UTC).date(),
    "timestamp_ms": 1_772_366_400_123, "status_code": 200, "sampling_fraction": 1.0, "execution_time_ms": 12,
    "request": REQUEST, "response": ANSWER,
    "request_metadata": [("endpoint_name", "e"), ("model_name", "fraud"), ("model_version", "7")],
}  # fmt: skip
GATEWAY: dict[str, Any] = {
    "request_date": datetime(2026, 3, 1, tzinfo=UTC).date(), "databricks_request_id": "d-2", "client_request_id": None,
    "request_time": datetime(2026, 3, 1, 12, tzinfo=UTC), "status_code": 200, "sampling_fraction": 1.0,
    "execution_duration_ms": 9, "request": REQUEST, "response": ANSWER, "served_entity_id": "s",
    "logging_error_codes": [], "requester": "someone",
}  # fmt: skip


def captured(event_id: str = "s-1", **parts: Any) -> dict[str, Any]:
    """Return an event as SageMaker's documentation shows it."""
    sent = {"observedContentType": "application/json", "mode": "INPUT", "data": REQUEST, "encoding": "JSON"}
    got = {"observedContentType": "application/json", "mode": "OUTPUT", "data": ANSWER, "encoding": "JSON"}
    return {
        "captureData": {"endpointInput": sent | parts.get("sent", {}), "endpointOutput": got | parts.get("got", {})},
        "eventMetadata": {"eventId": event_id, "inferenceTime": "2026-03-01T12:00:00Z"},
        "eventVersion": "0",
    }


@pytest.mark.parametrize(("row", "at", "version", "took"), [
    (LEGACY, 1_772_366_400_123_000, 7, 12_000),
    (GATEWAY, 1_772_366_400_000_000, 0, 9_000),
])  # fmt: skip
def test_a_captured_request_is_a_row_for_each_scored_row(row: dict[str, Any], at: int, version: int, took: int):
    first, second = map(decode, from_databricks(row, contract(), "fraud"))

    assert (first.request_id, first.row, first.score, first.features) == (row["databricks_request_id"], 0, 0.25, GOOD)
    assert (second.row, second.score, second.features) == (1, 0.75, GOOD | {"amount": 99.5})
    assert (first.at, first.version, first.latency_us, first.arm) == (at, version, took, "captured")
    assert first.contract == contract().versioned_name


@pytest.mark.parametrize("parts", [
    {},
    {"sent": {"data": base64.b64encode(REQUEST.encode()).decode(), "encoding": "BASE64"}},
    {"sent": {"observedContentType": "text/csv", "encoding": "CSV",
              "data": "amount,count,channel,risk\n12.5,3,web,0.25\n99.5,3,web,0.25\n"}},
    {"got": {"observedContentType": "text/csv; charset=utf-8", "encoding": "CSV", "data": "0.25\n0.75\n"}},
])  # fmt: skip
def test_a_captured_event_is_read_in_each_encoding(parts: dict[str, Any]):
    first, second = map(decode, from_sagemaker(json.dumps(captured(**parts)).encode(), contract(), "fraud"))

    assert (first.request_id, first.at, first.score, first.features) == ("s-1", 1_772_366_400_000_000, 0.25, GOOD)
    assert (second.row, second.score) == (1, 0.75)


def test_what_was_refused_or_breaks_the_contract_keeps_no_features():
    (refused,) = map(decode, from_databricks(GATEWAY | {"status_code": 400, "response": None}, contract(), "fraud"))
    broken = json.dumps({"dataframe_records": [GOOD | {"amount": -1}, GOOD]})
    first, second = map(decode, from_databricks(GATEWAY | {"request": broken}, contract(), "fraud"))

    assert (refused.arm, refused.status, refused.score) == ("refused", 400, None)
    assert (first.features, first.findings, second.features) == (None, ["out_of_range:amount"], GOOD)


@pytest.mark.parametrize("change", [
    {"request": "secret"}, {"request": '{"inputs": "secret"}'}, {"response": "secret"}, {"response": '{"a": 1}'},
    {"response": '{"predictions": [0.5]}'}, {"response": '{"predictions": ["secret", 1]}'}, {"timestamp_ms": None},
    {"status_code": "secret"},
])  # fmt: skip
def test_a_capture_that_is_no_row_is_refused_without_its_values(change: dict[str, Any]):
    with pytest.raises(UnreadableCaptureError) as raised:
        from_databricks(LEGACY | change, contract(), "fraud")

    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b"secret", json.dumps(captured(sent={"encoding": "BASE64"})).encode()]
)
def test_a_line_that_is_no_event_is_refused_without_its_values(line: bytes):
    with pytest.raises(UnreadableCaptureError) as raised:
        from_sagemaker(line, contract(), "fraud")

    assert "secret" not in str(raised.value)


def inference_table(place: Path, *ids: str) -> None:
    """Append captured requests to a table, as an endpoint does."""
    rows = [{**GATEWAY, "databricks_request_id": found} for found in ids]
    schema = pa.schema([
        ("databricks_request_id", pa.string()), ("request_time", pa.timestamp("us", tz="UTC")),
        ("status_code", pa.int32()), ("execution_duration_ms", pa.int64()), ("request", pa.string()),
        ("response", pa.string()),
    ])  # fmt: skip
    write_deltalake(place, pa.Table.from_pylist(rows, schema=schema), mode="append")


def test_an_inference_table_is_loaded_once(tmp_path: Path):
    origin, table = LogOrigin.parse(f"databricks:{tmp_path / 'captured'}"), str(tmp_path / "log")
    with pytest.raises(StorageError, match="can't be opened"):
        origin.load(table, contract(), "fraud")
    inference_table(tmp_path / "captured", "d-1", "d-2")

    assert origin.waiting(table) == 1
    first = origin.load(table, contract(), "fraud")
    assert (first.rows, first.doubled, origin.waiting(table)) == (4, 0, 0)
    assert origin.load(table, contract(), "fraud").rows == 0
    inference_table(tmp_path / "captured", "d-3")
    assert origin.waiting(table) == 1
    again = origin.load(table, contract(), "fraud")

    assert (again.rows, again.doubled) == (2, 4)
    ids = DeltaTable(table).to_pyarrow_table().column("request_id").to_pylist()
    assert sorted(ids) == ["d-1", "d-1", "d-2", "d-2", "d-3", "d-3"]


def test_capture_files_are_loaded_once(tmp_path: Path):
    folder, table = (
        tmp_path / "captured" / "endpoint" / "AllTraffic" / "2026" / "03" / "01" / "12",
        str(tmp_path / "log"),
    )
    origin = LogOrigin.parse(f"sagemaker:{tmp_path / 'captured'}")
    with pytest.raises(StorageError, match="can't be read"):
        origin.waiting(table)
    folder.mkdir(parents=True)
    (folder / "a.jsonl").write_text("\n".join(json.dumps(captured(found)) for found in ("s-1", "s-2")) + "\nno event\n")

    first = origin.load(table, contract(), "fraud")
    (folder / "b.jsonl").write_text(json.dumps(captured("s-2")) + "\n" + json.dumps(captured("s-3")))
    assert origin.waiting(table) == 1
    again = origin.load(table, contract(), "fraud")

    assert (first.rows, first.unreadable) == (4, 1)
    assert (again.rows, origin.waiting(table)) == (2, 0)


@pytest.mark.parametrize("address", ["", "kafka:", "kafka://broker", "s3://bucket", "delta:", "file:/tmp/a"])
def test_a_place_that_is_none_is_refused(address: str):
    with pytest.raises(SettingsError, match="no such place"):
        LogOrigin.parse(address)
