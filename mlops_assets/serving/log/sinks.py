"""Where the log of predictions goes: memory, a file, Delta, Kafka.

What belongs here: one class per kind of place, all with the same contract. What does not: when a batch is sent again
(`carrier`).

The contract: `write` returns once the sink has every row of the batch, and raises `SinkError` if it may lack one; then
the rows come again. Rows are lines of JSON as `record.encode` makes them, which are handed on unchanged. A batch has a
source and an end that only grows: a sink that can keep both with the rows (Delta) has each row exactly once, since it
is asked by `place` where to go on; any other may have a row twice after a kill, with the same ids.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import pyarrow as pa

from mlops_assets.errors import SettingsError
from mlops_assets.serving.log.record import LogRow, decode

_DELIVERY_SECONDS: Final = 30.0
# One column per field of `record.LogRow`; the key of a row is (request_id, row, arm).
SCHEMA: Final = pa.schema(
    [
        ("request_id", pa.string()),
        ("row", pa.int64()),
        ("arm", pa.string()),
        ("schema", pa.int64()),
        ("model", pa.string()),
        ("at", pa.timestamp("us", tz="UTC")),
        ("event_id", pa.string()),
        ("entity", pa.string()),
        ("event_time", pa.string()),
        ("features_as_of", pa.string()),
        ("contract", pa.string()),
        ("features", pa.string()),
        ("score", pa.float64()),
        ("threshold", pa.float64()),
        ("decision", pa.string()),
        ("policy", pa.string()),
        ("version", pa.int64()),
        ("alias", pa.string()),
        ("reasons", pa.list_(pa.string())),
        ("latency_us", pa.int64()),
        ("status", pa.int64()),
        ("findings", pa.list_(pa.string())),
    ]
)


class SinkError(Exception):
    """A batch that the sink may not have in full; its text holds no credentials."""


class Sink(Protocol):
    """A place for rows of the log.

    Attributes:
        pause: Seconds between two batches that are not full.
    """

    pause: float

    def place(self, source: str) -> int | None:
        """Return the end of the last batch of a source that the sink has; None if it keeps none.

        Raises:
            SinkError: The sink can't be asked.
        """

    def write(self, rows: Sequence[bytes], source: str, end: int) -> None:
        """Take a batch; on return the sink has all of it.

        Args:
            rows: Lines of JSON.
            source: Where they come from.
            end: Where the source goes on behind them.

        Raises:
            SinkError: It may lack a row.
        """

    def close(self) -> None:
        """Let go of connections and files."""


class MemorySink:
    """Keeps rows in a list, for tests and for `memory:`, which drops what is old.

    Attributes:
        rows: What was written, the newest last.
    """

    MOST: Final = 10_000

    pause = 0.1

    def __init__(self) -> None:
        self.rows: list[bytes] = []

    def place(self, source: str) -> int | None:  # noqa: ARG002 - the contract
        """Return None: no place is kept."""
        return None

    def write(self, rows: Sequence[bytes], source: str = "", end: int = 0) -> None:  # noqa: ARG002 - the contract
        """Keep the rows."""
        self.rows += rows
        del self.rows[: -self.MOST]

    def close(self) -> None:
        """Do nothing."""


class FileSink:
    """Appends lines of JSON to a file.

    Args:
        path: The file.
    """

    pause = 0.1

    def __init__(self, path: Path) -> None:
        self._path = path

    def place(self, source: str) -> int | None:  # noqa: ARG002 - the contract
        """Return None: no place is kept."""
        return None

    def write(self, rows: Sequence[bytes], source: str = "", end: int = 0) -> None:  # noqa: ARG002 - the contract
        """Append the rows and sync the file; what a failed write left of them is cut off."""
        content = b"".join(row + b"\n" for row in rows)
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab", buffering=0) as file:
                start = file.tell()
                if file.write(content) < len(content):
                    file.truncate(start)
                    raise SinkError(f"{self._path}: no space left on device")
                os.fsync(file.fileno())
        except OSError as error:
            raise SinkError(f"{self._path}: {error.strerror}") from None

    def close(self) -> None:
        """Do nothing: the file is closed after each batch."""


class DeltaSink:
    """Appends batches to a Delta table with delta-rs, without a JVM.

    Args:
        location: Folder or URL of the table, which is made with the first batch.
    """

    pause = 2.0  # each batch is a commit, and a file

    def __init__(self, location: str) -> None:
        self._location = location

    def place(self, source: str) -> int | None:
        """Return the transaction number that the table has for the source."""
        from deltalake import DeltaTable
        from deltalake.exceptions import DeltaError, TableNotFoundError

        try:
            return DeltaTable(self._location).transaction_version(source)
        except TableNotFoundError:
            return None
        except (DeltaError, OSError) as error:
            raise SinkError(f"Delta table: {type(error).__name__}") from None

    def write(self, rows: Sequence[bytes], source: str = "", end: int = 0) -> None:
        """Commit the batch, and its end as the source's transaction number."""
        from deltalake import CommitProperties, Transaction, write_deltalake
        from deltalake.exceptions import DeltaError

        noted = CommitProperties(app_transactions=[Transaction(source, end)]) if source else None
        try:
            write_deltalake(self._location, to_table(rows), mode="append", commit_properties=noted)
        except (DeltaError, OSError) as error:
            raise SinkError(f"Delta table: {type(error).__name__}") from None

    def close(self) -> None:
        """Do nothing."""


class KafkaSink:
    """Produces to a Kafka topic, or to Event Hubs by its Kafka endpoint.

    confluent-kafka's classic producer, idempotent, `acks=all`, with a delivery report for each row; it is made at the
    first batch, in the process that uses it.

    Args:
        servers: `host:port`, several with commas.
        topic: Name of the topic.
        login: librdkafka's settings for security, such as `sasl.username`; empty for none.
    """

    pause = 0.1

    def __init__(self, servers: str, topic: str, login: Mapping[str, str] | None = None) -> None:
        self._topic = topic
        self._config: dict[str, Any] = {
            "bootstrap.servers": servers,
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": 5,
            "message.timeout.ms": int(_DELIVERY_SECONDS * 1000),
            "log_level": 0,
            **(login or {}),
        }
        self._producer: Any = None

    def place(self, source: str) -> int | None:  # noqa: ARG002 - the contract
        """Return None: no place is kept."""
        return None

    def write(self, rows: Sequence[bytes], source: str = "", end: int = 0) -> None:  # noqa: ARG002 - the contract
        """Produce the rows, keyed by request id, and wait for all delivery reports."""
        from confluent_kafka import KafkaException, Producer

        failed: list[str] = []
        delivered = 0

        def report(error: Any, _: object) -> None:
            nonlocal delivered
            if error is None:
                delivered += 1
            else:
                failed.append(str(error.name()))

        try:
            if self._producer is None:
                self._producer = Producer(self._config)
            for row in rows:
                self._put(row, report)
            self._producer.flush(_DELIVERY_SECONDS + 5)
        except (KafkaException, BufferError) as error:
            self._drop()
            raise SinkError(f"Kafka: {type(error).__name__}") from None
        if delivered < len(rows):
            self._drop()
            raise SinkError(f"Kafka: {delivered} of {len(rows)} rows delivered ({', '.join(sorted(set(failed)))})")

    def close(self) -> None:
        """Drop the producer; everything it took has been reported."""
        self._drop()

    def _put(self, row: bytes, report: Any) -> None:
        key = decode(row).request_id.encode()
        try:
            self._producer.produce(self._topic, value=row, key=key, on_delivery=report)
        except BufferError:  # its queue is full: let it deliver some
            self._producer.poll(1.0)
            self._producer.produce(self._topic, value=row, key=key, on_delivery=report)
        self._producer.poll(0)

    def _drop(self) -> None:
        if self._producer is not None:
            self._producer.purge()
            self._producer = None


def open_sink(address: str, options: Mapping[str, str] | None = None) -> Sink:
    """Return the sink of an address.

    Args:
        address: `memory:`, `file:<path>`, `delta:<folder or URL>` or `kafka://<host:port,...>/<topic>`.
        options: librdkafka's settings for security, for Kafka.

    Raises:
        SettingsError: There is no such kind of sink.
    """
    kind, _, place = address.partition(":")
    if kind == "memory":
        return MemorySink()
    if kind == "file" and place:
        return FileSink(Path(place))
    if kind == "delta" and place:
        return DeltaSink(place)
    parts = urlsplit(address)
    if kind == "kafka" and parts.netloc and parts.path.strip("/"):
        return KafkaSink(parts.netloc, parts.path.strip("/"), options)
    raise SettingsError(
        "there is no such place for the log of predictions",
        where="MLOPS_SERVING_LOG",
        fix="use memory:, file:<path>, delta:<folder or URL> or kafka://<host:port>/<topic>",
    )


def to_table(rows: Sequence[bytes]) -> pa.Table:
    """Return rows of the log as a table with `SCHEMA`.

    Raises:
        msgspec.DecodeError: A row is not one of the log.
    """
    return pa.Table.from_pylist([_as_columns(decode(row)) for row in rows], schema=SCHEMA)


def _as_columns(row: LogRow) -> dict[str, Any]:
    import msgspec

    columns = {name: getattr(row, name) for name in SCHEMA.names}
    if row.features is not None:
        columns["features"] = msgspec.json.encode(row.features).decode()
    return columns
