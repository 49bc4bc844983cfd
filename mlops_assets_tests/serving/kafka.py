"""A real Kafka broker on this machine: one process in KRaft mode, from the jars of Maven Central.

What belongs here: getting the jars with Spark's own Ivy, starting, killing. What does not: judging what arrives.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
import uuid
from pathlib import Path

import pyspark
from filelock import FileLock

from mlops_assets.settings import Settings
from mlops_assets_tests.conftest import CHECKOUT

VERSION = "4.1.0"
_FETCH_SECONDS, _START_SECONDS = 600, 120.0


def jars() -> Path:
    """Return the folder with the broker's jars, fetched once into the checkout's `.mlops`."""
    folder = CHECKOUT / ".mlops" / f"kafka-{VERSION}"
    folder.parent.mkdir(exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "complete").exists():
            (ivy,) = (Path(pyspark.__file__).parent / "jars").glob("ivy-*.jar")
            command = [
                _java(), "-jar", str(ivy), "-warn", "-cache", str(folder / "cache"),
                "-dependency", "org.apache.kafka", "kafka_2.13", VERSION, "-confs", "default,runtime,master",
                "-retrieve", str(folder / "[artifact]-[revision].[ext]"), "-types", "jar", "bundle",
            ]  # fmt: skip
            subprocess.run(command, check=True, timeout=_FETCH_SECONDS, capture_output=True)
            (folder / "complete").touch()
    return folder


class Broker:
    """A broker with its data in a folder; started again, it has what it had.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder, self._port, self._controller = folder, _free_port(), _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "server.properties").write_text(
            "process.roles=broker,controller\nnode.id=1\n"
            f"controller.quorum.voters=1@127.0.0.1:{self._controller}\ncontroller.listener.names=CONTROLLER\n"
            f"listeners=PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self._port}\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            f"log.dirs={folder / 'data'}\noffsets.topic.replication.factor=1\nnum.partitions=2\n"
            "transaction.state.log.replication.factor=1\ntransaction.state.log.min.isr=1\n"
            "group.initial.rebalance.delay.ms=0\nauto.create.topics.enable=true\n"
        )
        cluster = uuid.uuid4().hex[:22]
        self._run("kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(folder / "server.properties"))

    @property
    def address(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Start it, and wait until it listens."""
        log = (self._folder / "broker.log").open("ab")
        arguments = self._command("kafka.Kafka", str(self._folder / "server.properties"))
        self._process = subprocess.Popen(arguments, stdout=log, stderr=log)
        until = time.monotonic() + _START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", self._port), 1).close()
                break
            except OSError:
                assert self._process.poll() is None, (self._folder / "broker.log").read_text()[-3_000:]
                assert time.monotonic() < until
                time.sleep(0.2)

    def kill(self) -> None:
        """End it without a word."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(self._command(*arguments), capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    @staticmethod
    def _command(*arguments: str) -> list[str]:
        options = ["-Xmx384m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        return [_java(), *options, "-cp", f"{jars()}/*", *arguments]


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _java() -> str:
    home = Settings.from_environment().java_home
    return str(Path(home) / "bin" / "java") if home else "java"
