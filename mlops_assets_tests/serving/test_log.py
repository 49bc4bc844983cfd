"""The log: what was accepted is on disk, comes back after a kill, and reaches a sink."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import pytest
from deltalake import DeltaTable

from mlops_assets.errors import SettingsError
from mlops_assets.serving.log.carrier import Carrier, read_state, unsent
from mlops_assets.serving.log.record import SCHEMA_VERSION, LogRow, decode, encode
from mlops_assets.serving.log.segments import LogFullError, SegmentReader, SegmentWriter, is_alive
from mlops_assets.serving.log.sinks import DeltaSink, FileSink, MemorySink, Sink, SinkError, open_sink, to_table

LIMIT = 2**20


def row(number: int, arm: str = "champion") -> bytes:
    return encode(LogRow(request_id=f"r{number}", model="m", at=number, arm=arm, features={"a": 0.1}, score=0.25))  # type: ignore[arg-type]


def all_of(reader: SegmentReader) -> list[bytes]:
    found, position = reader.read(10_000)
    reader.forget(position)
    return found


def test_rows_come_back_in_order_over_several_segments(tmp_path: Path):
    writer = SegmentWriter(tmp_path, LIMIT, segment_bytes=500)
    rows = [row(number) for number in range(50)]
    for number in range(0, 50, 5):
        writer.append(*rows[number : number + 5])
    reader = SegmentReader(writer.folder)

    assert len(list(writer.folder.glob("*.seg"))) > 3
    assert all_of(reader) == rows
    assert len(list(writer.folder.glob("*.seg"))) == 1, "what was sent is removed"
    writer.append(row(50))
    assert all_of(reader) == [row(50)]
    writer.close()
    assert reader.is_done()


@pytest.mark.parametrize("damage", ["cut", "payload", "length", "nothing"])
def test_reading_stops_at_the_first_damaged_record_of_a_writer_that_is_gone(tmp_path: Path, damage: str):
    writer = SegmentWriter(tmp_path, LIMIT)
    for number in range(3):
        writer.append(row(number))
    writer.close()
    (path,) = writer.folder.glob("*.seg")
    content = bytearray(path.read_bytes())
    record = len(content) // 3
    if damage == "cut":
        del content[-5:]
    elif damage == "payload":
        content[2 * record + 20] ^= 1
    elif damage == "length":
        content[2 * record + 3] = 255
    path.write_bytes(content)
    reader = SegmentReader(writer.folder)

    found = all_of(reader)

    assert found == [row(number) for number in range(3 if damage == "nothing" else 2)]
    assert (reader.damaged > 0) == (damage != "nothing")
    assert reader.is_done()


def test_a_record_that_is_being_written_is_waited_for(tmp_path: Path):
    writer = SegmentWriter(tmp_path, LIMIT)
    writer.append(row(1))
    (path,) = writer.folder.glob("*.seg")
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:10])
    reader = SegmentReader(writer.folder)

    assert all_of(reader) == [row(1)]
    assert reader.damaged == 0
    path.write_bytes(whole + whole)
    assert all_of(reader) == [row(1)]
    writer.close()


def test_what_a_killed_process_has_appended_is_there(tmp_path: Path):
    code = (
        "import sys, time\nfrom pathlib import Path\n"
        "from mlops_assets.serving.log.segments import SegmentWriter\n"
        f"writer = SegmentWriter(Path({str(tmp_path)!r}), {LIMIT})\n"
        "for number in range(1000):\n    writer.append(str(number).encode())\n"
        "print('there', flush=True)\ntime.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    (folder,) = tmp_path.iterdir()
    assert is_alive(folder)

    process.send_signal(signal.SIGKILL)
    process.wait()

    assert not is_alive(folder)
    assert all_of(SegmentReader(folder)) == [str(number).encode() for number in range(1000)]


def test_the_limit_refuses_until_something_was_sent(tmp_path: Path):
    writer = SegmentWriter(tmp_path, 2_000, segment_bytes=600)
    kept = 0

    def fill() -> None:
        nonlocal kept
        for number in range(100):
            writer.append(row(number))
            kept += 1

    with pytest.raises(LogFullError):
        fill()
    sink = MemorySink()

    while Carrier(tmp_path, sink).step():
        pass

    assert len(sink.rows) == kept
    writer.append(row(100))
    writer.close()


def test_a_full_disk_leaves_nothing_of_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    writer = SegmentWriter(tmp_path, LIMIT)
    writer.append(row(1))
    real = os.write
    # What write(2) does on a disk with ten bytes left.
    monkeypatch.setattr(os, "write", lambda file, content: real(file, content[:10]))

    with pytest.raises(LogFullError):
        writer.append(row(2))

    monkeypatch.undo()
    writer.append(row(3))
    writer.close()
    reader = SegmentReader(writer.folder)
    assert all_of(reader) == [row(1), row(3)]
    assert reader.damaged == 0


class Broken:
    """A sink that fails some times, then works; it may have taken the rows before it failed."""

    def __init__(self, below: Sink, failures: int) -> None:
        self.below, self.failures, self.pause = below, failures, 0.1

    def place(self, source: str) -> int | None:
        return self.below.place(source)

    def write(self, rows: Sequence[bytes], source: str, end: int) -> None:
        if self.failures:
            self.failures -= 1
            raise SinkError("not now")
        self.below.write(rows, source, end)

    def close(self) -> None:
        self.below.close()


def test_rows_wait_for_a_sink_that_fails_and_the_end_waits_for_them(tmp_path: Path):
    writer = SegmentWriter(tmp_path, LIMIT)
    writer.append(row(1), row(2))
    memory = MemorySink()
    carrier, stop = Carrier(tmp_path, Broken(memory, 1)), threading.Event()
    thread = threading.Thread(target=carrier.run, args=(stop,))
    size, oldest = unsent(tmp_path)
    assert size > 0
    assert oldest > 0

    thread.start()
    writer.append(row(3))
    writer.close()
    threading.Event().wait(0.6)
    stop.set()
    thread.join()

    assert memory.rows == [row(1), row(2), row(3)]
    assert unsent(tmp_path)[0] == 0
    state = read_state(tmp_path)
    assert (state.sent, state.failures) == (3, 1)
    assert list(tmp_path.glob("w-*")) == [], "the folder of a writer that is gone, and sent, is removed"


# --- every sink -------------------------------------------------------------------------------------------------------


def in_file(tmp_path: Path) -> tuple[Sink, Callable[[], list[bytes]]]:
    path = tmp_path / "sub" / "log.jsonl"
    return open_sink(f"file:{path}"), lambda: path.read_bytes().splitlines()


def in_delta(tmp_path: Path) -> tuple[Sink, Callable[[], list[bytes]]]:
    place = str(tmp_path / "table")
    return open_sink(f"delta:{place}"), lambda: [
        row(int(name[1:]))
        for name in DeltaTable(place).to_pyarrow_table().sort_by("at").column("request_id").to_pylist()
    ]


def in_memory(tmp_path: Path) -> tuple[Sink, Callable[[], list[bytes]]]:
    sink = MemorySink()
    return sink, lambda: sink.rows


@pytest.mark.parametrize("make", [in_memory, in_file, in_delta])
def test_every_sink_keeps_the_contract(tmp_path: Path, make: Callable[[Path], tuple[Sink, Callable[[], list[bytes]]]]):
    """The one of Kafka is held to the same in `test_kafka`, with a real broker."""
    sink, written = make(tmp_path)
    keep_contract(sink, written)


def keep_contract(sink: Sink, written: Callable[[], list[bytes]]) -> None:
    assert sink.place("w-1") is None

    sink.write([row(1), row(2)], "w-1", 10)
    sink.write([row(3)], "w-1", 15)
    sink.write([row(4)], "w-2", 7)

    assert written() == [row(number) for number in range(1, 5)]
    assert sink.place("w-1") in (15, None)
    sink.close()


def test_a_carrier_that_forgot_its_place_doubles_nothing_in_delta(tmp_path: Path):
    log, place = tmp_path / "log", str(tmp_path / "table")
    writer = SegmentWriter(log, LIMIT)
    writer.append(*[row(number) for number in range(20)])
    Carrier(log, DeltaSink(place)).step()
    (writer.folder / "sent.json").unlink()  # killed between the commit and the note of its place
    writer.append(*[row(number) for number in range(20, 25)])

    carrier = Carrier(log, DeltaSink(place))
    while carrier.step():
        pass

    table = DeltaTable(place).to_pyarrow_table()
    assert sorted(table.column("at").cast("int64").to_pylist()) == list(range(25))
    assert set(table.column("score").to_pylist()) == {0.25}
    writer.close()


def test_a_file_that_can_not_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "a").write_text("a file")

    with pytest.raises(SinkError):
        FileSink(tmp_path / "a" / "log").write([row(1)])


def test_a_table_that_can_not_be_written_is_an_error(tmp_path: Path):
    (tmp_path / "a").write_text("a file")

    with pytest.raises(SinkError):
        DeltaSink(str(tmp_path / "a" / "table")).write([row(1)])


@pytest.mark.parametrize("address", ["", "file:", "kafka:topic", "kafka://host:1", "http://host/x", "delta:"])
def test_an_address_of_no_sink_is_refused(address: str):
    with pytest.raises(SettingsError, match="MLOPS_SERVING_LOG"):
        open_sink(address)


def test_rows_of_the_first_version_are_still_read():
    """This text is what version 1 wrote; it must be readable as long as there are logs."""
    old = b'{"request_id":"r","model":"m","at":5,"arm":"champion","event_id":"e","score":0.5,"version":3,"later":[1]}'

    found = decode(old)

    assert (found.schema, found.version, found.score, found.status, found.reasons) == (1, 3, 0.5, 200, [])
    assert SCHEMA_VERSION >= 1
    assert to_table([old]).num_rows == 1
    with pytest.raises(msgspec.DecodeError):
        decode(b'{"request_id":1}')
