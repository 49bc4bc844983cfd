"""A real broker: what it takes while it is killed and started again, and what is loaded from it, each row once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from deltalake import DeltaTable

from mlops_assets.errors import StorageError
from mlops_assets.serving.log import table as log_table
from mlops_assets.serving.log.from_kafka import load, waiting
from mlops_assets.serving.log.sinks import KafkaSink, SinkError
from mlops_assets_tests.serving.kafka import Broker
from mlops_assets_tests.serving.kit import event
from mlops_assets_tests.serving.registry import Registry
from mlops_assets_tests.serving.served import running
from mlops_assets_tests.serving.test_log import keep_contract, row

pytestmark = pytest.mark.proof  # starts a broker


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    made = Broker(tmp_path_factory.mktemp("kafka") / "broker")
    made.start()
    yield made
    made.kill()


def messages(broker: Broker, topic: str) -> list[bytes]:
    """Return all messages of a topic."""
    consumer = Consumer({"bootstrap.servers": broker.address, "group.id": "test"})
    found: list[tuple[int, bytes]] = []
    for number in consumer.list_topics(topic, timeout=30).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=30)
        consumer.assign([TopicPartition(topic, number, low)])
        left = high - low
        while left:
            message = consumer.poll(30)
            assert message is not None
            assert message.error() is None
            found.append((message.timestamp()[1], message.value() or b""))
            left -= 1
    consumer.close()
    return [content for _, content in found]


def test_the_sink_keeps_the_contract_of_all_sinks(broker: Broker):
    sink = KafkaSink(broker.address, "contract")

    keep_contract(sink, lambda: sorted(messages(broker, "contract")))


def test_a_broker_that_is_not_there_is_an_error():
    sink = KafkaSink("127.0.0.1:1", "t", {"message.timeout.ms": "1500"})

    with pytest.raises(SinkError, match="0 of 1 rows delivered"):
        sink.write([row(1)])
    with pytest.raises(StorageError, match="the broker does not answer"):
        load("127.0.0.1:1", "t", "/nowhere")


def test_rows_are_loaded_once_whatever_is_lost(broker: Broker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place, sink = str(tmp_path / "table"), KafkaSink(broker.address, "loaded")
    sink.write([row(number) for number in range(100)])
    assert waiting(broker.address, "loaded", place) == 100

    first = load(broker.address, "loaded", place)
    again = load(broker.address, "loaded", place)
    sink.write([row(number) for number in range(90, 120)])  # a carrier that forgot its place sends some again
    # Killed before the commit: nothing is there, and the next load has everything.
    monkeypatch.setattr(log_table, "write_deltalake", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        load(broker.address, "loaded", place)
    monkeypatch.undo()
    producer = Producer({"bootstrap.servers": broker.address})
    producer.produce("loaded", value=b"no row")
    producer.flush(30)
    third = load(broker.address, "loaded", place)
    in_parts = [load(broker.address, "loaded", str(tmp_path / "parts"), most=1) for _ in range(4)]

    assert (first.rows, again.rows, third.rows, third.doubled, third.unreadable) == (100, 0, 20, 10, 1)
    table = DeltaTable(place).to_pyarrow_table()
    assert sorted(table.column("request_id").to_pylist()) == sorted(f"r{number}" for number in range(120))
    assert sum(part.rows for part in in_parts) == 120
    assert in_parts[-1].lag == 0
    assert waiting(broker.address, "loaded", place) == 0


def test_a_topic_that_was_created_again_is_no_empty_one(broker: Broker, tmp_path: Path):
    place, sink = str(tmp_path / "table"), KafkaSink(broker.address, "anew")
    sink.write([row(number) for number in range(50)])
    load(broker.address, "anew", place)
    admin = AdminClient({"bootstrap.servers": broker.address})
    admin.delete_topics(["anew"])["anew"].result(30)
    until = time.monotonic() + 30
    while "anew" in admin.list_topics(timeout=30).topics and time.monotonic() < until:
        time.sleep(0.2)
    KafkaSink(broker.address, "anew").write([row(1_000)])

    with pytest.raises(StorageError, match="created again"):
        load(broker.address, "anew", place)
    with pytest.raises(StorageError, match="there is no such topic"):
        load(broker.address, "no such topic", place)


def test_a_broker_that_is_away_for_a_minute_costs_no_answer_and_no_row(broker: Broker, tmp_path: Path):
    registry = Registry(tmp_path)
    registry.register(1)
    answered: dict[str, str] = {}
    slow: list[float] = []
    stop = threading.Event()

    with running(registry, environ={"port": "0", "log": f"kafka://{broker.address}/served"}) as server:

        def ask() -> None:
            session, number = requests.Session(), 0
            while not stop.is_set():
                number += 1
                started = time.monotonic()
                reply = session.post(f"{server.url}/v1/score", json=event(f"e-{number}"), timeout=30)
                slow.append(time.monotonic() - started)
                assert reply.status_code == 200
                answered[f"e-{number}"] = reply.json()["request_id"]
                time.sleep(0.01)

        thread = threading.Thread(target=ask)
        thread.start()
        time.sleep(3)
        broker.kill()
        time.sleep(60)
        waiting = requests.get(f"{server.url}/metrics", timeout=30).text
        broker.start()
        time.sleep(5)
        stop.set()
        thread.join()
        (unsent,) = [line for line in waiting.splitlines() if line.startswith("mlops_log_unsent_bytes{")]
        assert float(unsent.rpartition(" ")[2]) > 0
        until = time.monotonic() + 90
        place = str(tmp_path / "table")
        while True:
            load(broker.address, "served", place)
            there = DeltaTable(place).to_pyarrow_table().column("request_id").to_pylist()
            if set(answered.values()) <= set(there) or time.monotonic() > until:
                break
            time.sleep(1)
        server.stop()

    load(broker.address, "served", place)
    logged = DeltaTable(place).to_pyarrow_table().column("request_id").to_pylist()
    assert sorted(logged) == sorted(answered.values())
    assert len(answered) > 500
    assert max(slow) < 5
