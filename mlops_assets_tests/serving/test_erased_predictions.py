"""An entity leaves the log of predictions: its rows, older versions, and the statistics in the table's log."""

from __future__ import annotations

from pathlib import Path

from deltalake import DeltaTable

from mlops_assets.lakehouse.erased_predictions import erase_from_log, rows_in_log
from mlops_assets.serving.entities import EntityHash
from mlops_assets.serving.log.record import LogRow, encode
from mlops_assets.serving.log.segments import SegmentWriter
from mlops_assets.serving.log.sinks import DeltaSink
from mlops_assets.serving.log.waiting import rows_waiting

HASH = EntityHash(b"secret" * 8, 30)
DAY = 86_400.0


def row(number: int, entity: str, at: float = 0.0) -> bytes:
    return encode(LogRow(request_id=f"r{number}", model="m", at=number, arm="champion", entity=HASH(entity, at)))


def test_an_entity_leaves_every_file_under_each_of_its_hashes(tmp_path: Path):
    folder, sink = tmp_path / "log", DeltaSink(str(tmp_path / "log"))
    for batch in range(3):
        at = batch * 31 * DAY
        sink.write([row(10 * batch, "erased", at), row(10 * batch + 1, f"other {batch}", at)], "s", batch + 1)
    hashes = HASH.hashes_over("erased", 0, 100 * DAY)
    assert (rows_in_log(folder, hashes), rows_in_log(folder, HASH.hashes_over("nobody", 0, DAY))) == (3, 0)

    assert erase_from_log(folder, hashes) == []

    contents = [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    assert not any(value.encode() in content for content in contents for value in hashes)
    assert rows_in_log(folder, hashes) == 0
    assert len(DeltaTable(folder).to_pyarrow_table()) == 3
    assert sink.place("s") == 3, "where the server goes on is kept"
    sink.write([row(99, "another")], "s", 4)
    assert len(DeltaTable(folder).to_pyarrow_table()) == 4


def test_where_nothing_is_there_is_nothing_to_erase(tmp_path: Path):
    assert rows_in_log(tmp_path / "log", ["x"]) == 0
    assert erase_from_log(tmp_path / "log", ["x"]) == []
    assert rows_waiting(tmp_path / "segments", ["x"]) == 0


def test_rows_on_their_way_are_counted(tmp_path: Path):
    writer = SegmentWriter(tmp_path, 2**20)
    writer.append(row(1, "erased"), row(2, "other"), b"no row")
    writer.close()

    assert rows_waiting(tmp_path, HASH.hashes_over("erased", 0, 0)) == 1
