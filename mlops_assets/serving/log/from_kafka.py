"""From a Kafka topic to the Delta table of the log, each row once.

What belongs here: reading what is new, and how much that is. What does not: producing (`sinks`), the commit (`table`).

The offset of each partition is the transaction number of that partition in the same Delta commit as its rows: a kill
before the commit changes nothing, and after it nothing is read again. No consumer group's offsets are used, so losing
them doubles nothing. Rows that the producer sent twice have the same ids and come in once, as long as both are within
`table.WINDOW_DAYS` of each other.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import msgspec
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from mlops_assets.errors import StorageError
from mlops_assets.serving.log.sinks import SCHEMA, to_table
from mlops_assets.serving.log.table import Loaded, LogTable

_SECONDS: Final = 15.0
_MOST: Final = 100_000


def load(servers: str, topic: str, location: str, login: Mapping[str, str] | None = None, most: int = _MOST) -> Loaded:
    """Add what is new in a topic to a table, in one commit.

    Args:
        servers: `host:port`, several with commas.
        topic: Name of the topic.
        location: Folder or URL of the table, which is made if it does not exist.
        login: librdkafka's settings for security.
        most: Messages that are read at most, give or take a batch.

    Raises:
        StorageError: The broker does not answer, has no such topic, or has lost messages that were not read yet.
    """
    with _consumer(servers, topic, login) as consumer:
        table = LogTable(location)
        starts, ends = _spans(consumer, topic, table)
        return _load(consumer, topic, table, starts, ends, most)


def waiting(servers: str, topic: str, location: str, login: Mapping[str, str] | None = None) -> int:
    """Return how many messages of a topic a table does not have yet; arguments and errors are those of `load`."""
    with _consumer(servers, topic, login) as consumer:
        starts, ends = _spans(consumer, topic, LogTable(location))
    return sum(max(0, end - starts[number]) for number, end in ends.items())


@contextmanager
def _consumer(servers: str, topic: str, login: Mapping[str, str] | None) -> Iterator[Any]:
    # `group.id` is required, and never committed to.
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": "mlops_assets", "enable.auto.commit": False, "log_level": 0}
        | {"auto.offset.reset": "error"}
        | dict(login or {})
    )
    try:
        yield consumer
    except KafkaException as error:
        raise StorageError(
            f"the broker does not answer: {error.args[0].name() if error.args else error}",
            where=f"topic {topic}",
            fix="check the broker and the address of the log",
            transient=True,
        ) from None
    finally:
        consumer.close()


def _spans(consumer: Any, topic: str, table: LogTable) -> tuple[dict[int, int], dict[int, int]]:
    """Return where reading goes on, and where the topic ends, by partition."""
    found = consumer.list_topics(topic, timeout=_SECONDS).topics[topic]
    if found.error is not None or not found.partitions:
        raise StorageError("there is no such topic", where=f"topic {topic}", fix="check the address of the log")
    starts: dict[int, int] = {}
    ends: dict[int, int] = {}
    for number in found.partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=_SECONDS)
        seen = table.number(_name(topic, number))
        if seen is not None and not low <= seen <= high:
            raise StorageError(
                f"the table has read partition {number} up to {seen}, and the topic holds {low} to {high}: it was "
                "created again, or rows were deleted before they were read",
                where=f"topic {topic}",
                fix="load from a topic of another name; what the old one lost can't be loaded",
            )
        starts[number], ends[number] = low if seen is None else seen, high
    return starts, ends


def _load(
    consumer: Any, topic: str, table: LogTable, starts: Mapping[int, int], ends: Mapping[int, int], most: int
) -> Loaded:
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
    added = table.add(rows, {_name(topic, number): read[number] for number in wanted})
    lag = sum(max(0, end - read[number]) for number, end in ends.items())
    return Loaded(added, rows.num_rows - added, unreadable, lag)


def _name(topic: str, partition: int) -> str:
    return f"kafka:{topic}:{partition}"
