"""From a Kafka topic to the Delta table of the log, each row once.

What belongs here: reading what is new, the commit, the rows that are there already. What does not: producing (`sinks`).

The offset of each partition is the transaction number of that partition in the same Delta commit as its rows: a kill
before the commit changes nothing, and after it nothing is read again. No consumer group's offsets are used, so losing
them doubles nothing. Rows that the producer sent twice have the same ids and come in once, as long as both are within
`WINDOW_DAYS` of each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition
from deltalake import CommitProperties, DeltaTable, Transaction, write_deltalake
from deltalake.exceptions import TableNotFoundError

from mlops_assets.errors import StorageError
from mlops_assets.serving.log.sinks import SCHEMA, to_table

WINDOW_DAYS: Final = 7
KEY: Final = ("request_id", "row", "arm")
_SECONDS: Final = 15.0
_MOST: Final = 100_000


@dataclass(frozen=True)
class Loaded:
    """What a load did.

    Attributes:
        rows: Rows that were added.
        doubled: Rows that were there already, or twice in the topic.
        unreadable: Messages that are no rows of the log.
        lag: Messages of the topic that are still to be read.
    """

    rows: int
    doubled: int
    unreadable: int
    lag: int


def load(servers: str, topic: str, location: str, login: Mapping[str, str] | None = None, most: int = _MOST) -> Loaded:
    """Add what is new in a topic to a table, in one commit.

    Args:
        servers: `host:port`, several with commas.
        topic: Name of the topic.
        location: Folder or URL of the table, which is made if it does not exist.
        login: librdkafka's settings for security.
        most: Messages that are read at most.

    Raises:
        StorageError: The broker does not answer.
    """
    # `group.id` is required, and never committed to.
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "mlops_assets", "enable.auto.commit": False, "log_level": 0}
        | {"auto.offset.reset": "error"}
        | dict(login or {})
    )
    try:
        return _load(consumer, topic, _table(location), location, most)
    except KafkaException as error:
        raise StorageError(
            f"the broker does not answer: {error.args[0].name() if error.args else error}",
            where=f"topic {topic}",
            fix="check the broker, and MLOPS_SERVING_LOG",
            transient=True,
        ) from None
    finally:
        consumer.close()


def _load(consumer: Any, topic: str, table: DeltaTable | None, location: str, most: int) -> Loaded:
    partitions = consumer.list_topics(topic, timeout=_SECONDS).topics[topic].partitions
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for number in partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_SECONDS)
        seen = None if table is None else table.transaction_version(_name(topic, number))
        starts[number] = max(low, 0 if seen is None else seen)
        ends[number] = high
    wanted = {number: end for number, end in ends.items() if end > starts[number]}
    if not wanted:
        return Loaded(0, 0, 0, 0)
    consumer.assign([TopicPartition(topic, number, starts[number]) for number in wanted])
    read = dict(starts)
    found: list[bytes] = []
    unreadable = 0
    while len(found) < most and any(read[number] < end for number, end in wanted.items()):
        batch: list[Message] = consumer.consume(1_000, timeout=_SECONDS)
        if not batch:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))  # noqa: SLF001 - its name in confluent-kafka
        for message in batch:
            if (error := message.error()) is not None:
                raise KafkaException(error)
            number, offset, content = message.partition(), message.offset(), message.value()
            if number is None or offset is None:
                continue
            read[number] = offset + 1
            try:
                to_table([content or b""])
                found.append(content or b"")
            except msgspec.DecodeError:
                unreadable += 1
    rows = to_table(found) if found else SCHEMA.empty_table()
    new = _without_known(rows, table)
    noted = [Transaction(_name(topic, number), read[number]) for number in wanted]
    write_deltalake(location, new, mode="append", commit_properties=CommitProperties(app_transactions=noted))
    lag = sum(max(0, end - read[number]) for number, end in ends.items())
    return Loaded(new.num_rows, rows.num_rows - new.num_rows, unreadable, lag)


def _without_known(rows: pa.Table, table: DeltaTable | None) -> pa.Table:
    """Return the rows whose ids are neither in the table nor earlier among them."""
    keys = list(zip(*(rows.column(name).to_pylist() for name in KEY), strict=True))
    known: set[tuple[Any, ...]] = set()
    if table is not None and rows.num_rows:
        first = pc.min(rows.column("at")).as_py() - timedelta(days=WINDOW_DAYS)
        there = table.to_pyarrow_table(columns=[*KEY], filters=[("at", ">=", first)])
        known = set(zip(*(there.column(name).to_pylist() for name in KEY), strict=True))
    kept = []
    for key in keys:
        kept.append(key not in known)
        known.add(key)
    return rows.filter(pa.array(kept, pa.bool_()))


def _table(location: str) -> DeltaTable | None:
    try:
        return DeltaTable(location)
    except TableNotFoundError:
        return None


def _name(topic: str, partition: int) -> str:
    return f"kafka:{topic}:{partition}"
