"""The Delta jars through Spark's own Ivy, from a repository on 127.0.0.1 that the user's Spark settings name."""

from __future__ import annotations

import http.server
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlops_assets.errors import StorageError
from mlops_assets.resources.delta_jars import LockedJar, ensure_delta_jars, locked_jars, missing_jars
from mlops_assets.settings import Settings

POM = (
    "<project><modelVersion>4.0.0</modelVersion>"
    "<groupId>{}</groupId><artifactId>{}</artifactId><version>{}</version></project>"
)


@dataclass
class Repository:
    """A Maven repository on the loopback, and the Spark settings of a user who has it as a mirror."""

    files: dict[str, bytes]
    spark_conf: Path
    asked: Counter[str] = field(default_factory=Counter)

    def environment(self) -> dict[str, str]:
        return {**os.environ, "SPARK_CONF_DIR": str(self.spark_conf)}

    def fetch(self, folder: Path) -> subprocess.Popen[str]:
        """Start the command that the set-up starts, with a Java that Spark's Ivy does not use and that is not there."""
        home, java_home = folder.parent, folder.parent / "no java"
        return subprocess.Popen(
            [sys.executable, "-m", "mlops_assets.resources.prepare_spark", str(home), str(java_home)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


def path_in_repository(jar: LockedJar, extension: str) -> str:
    group, artifact, version = jar.coordinates.split(":")
    return f"/{group.replace('.', '/')}/{artifact}/{version}/{artifact}-{version}.{extension}"


def spark_settings(folder: Path, port: int) -> Path:
    settings = folder / "ivysettings.xml"
    settings.write_text(
        '<ivysettings><settings defaultResolver="mirror"/><resolvers>'
        f'<ibiblio name="mirror" m2compatible="true" root="http://127.0.0.1:{port}/"/></resolvers></ivysettings>',
        "utf-8",
    )
    (folder / "spark-defaults.conf").write_text(f"spark.jars.ivySettings {settings}\n", "utf-8")
    return folder


@pytest.fixture(scope="session")
def cached() -> Path:
    """The folder that `make` has filled; filled now if the tests were started without it."""
    folder = Settings.from_environment().home / "jars"
    ensure_delta_jars(folder)
    return folder


@pytest.fixture
def repository(cached: Path, tmp_path: Path) -> Iterator[Repository]:
    files = {}
    for jar in locked_jars():
        files[path_in_repository(jar, "pom")] = POM.format(*jar.coordinates.split(":")).encode()
        files[path_in_repository(jar, "jar")] = (cached / jar.file).read_bytes()
    (tmp_path / "conf").mkdir()
    repository = Repository(files, tmp_path / "conf")

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            repository.asked[self.path] += 1
            self._answer(body=True)

        def do_HEAD(self) -> None:
            self._answer(body=False)

        def _answer(self, *, body: bool) -> None:
            content = repository.files.get(self.path)
            self.send_response(404 if content is None else 200)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            if body and content:
                self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        spark_settings(repository.spark_conf, server.server_port)
        yield repository
        server.shutdown()


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {".lock"}


def test_lock_names_each_jar_with_its_hash_and_no_address():
    for jar in locked_jars():
        group, artifact, version = jar.coordinates.split(":")
        assert group == "io.delta"
        assert jar.file == f"{artifact}-{version}.jar"
        assert len(bytes.fromhex(jar.sha256)) == 32


def test_cached_jars_are_taken_as_they_are(cached: Path):
    before = {path: path.stat().st_mtime_ns for path in cached.glob("*.jar")}
    paths = ensure_delta_jars(cached)
    assert [path.name for path in paths] == [jar.file for jar in locked_jars()]
    assert {path: path.stat().st_mtime_ns for path in paths} == before


def test_two_processes_fetch_once_from_the_users_mirror_and_mend_a_broken_jar(repository: Repository, tmp_path: Path):
    folder = tmp_path / "a home" / "jars"
    folder.mkdir(parents=True)
    first, second = locked_jars()
    (folder / first.file).write_bytes(repository.files[path_in_repository(first, "jar")][:-1])
    (folder / ".ivy-left-over").mkdir()

    processes = [repository.fetch(folder) for _ in range(2)]
    outcomes = [(*process.communicate(timeout=120), process.returncode) for process in processes]

    assert [code for _, _, code in outcomes] == [0, 0], outcomes
    assert all("the class archive was not made" in errors for _, errors, _ in outcomes)  # which stops nothing
    assert missing_jars(folder) == ()
    assert contents(folder) == {first.file, second.file}
    assert {path: count for path, count in repository.asked.items() if path.endswith(".jar")} == {
        path_in_repository(first, "jar"): 1,
        path_in_repository(second, "jar"): 1,
    }
    assert "".join(errors for _, errors, _ in outcomes).count("is not the locked jar") == 1


def test_another_file_under_the_locked_name_is_refused(repository: Repository, cached: Path, tmp_path: Path):
    first, second = locked_jars()
    (tmp_path / "jars").mkdir()
    shutil.copy(cached / second.file, tmp_path / "jars")
    repository.files[path_in_repository(first, "jar")] += b"tampered"

    process = repository.fetch(tmp_path / "jars")
    _, errors = process.communicate(timeout=120)

    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert line.startswith(f"{first.coordinates} was fetched, but its SHA-256 is not the one in jars.lock")
    assert contents(tmp_path / "jars") == {second.file}


def test_unreachable_repository_gives_one_line(tmp_path: Path):
    with socket.socket() as closed:  # bound and not listening: nobody else gets the port, and nobody answers
        closed.bind(("127.0.0.1", 0))
        (tmp_path / "conf").mkdir()
        repository = Repository({}, spark_settings(tmp_path / "conf", closed.getsockname()[1]))
        process = repository.fetch(tmp_path / "jars")
        _, errors = process.communicate(timeout=120)

    assert process.returncode == 1
    (line,) = errors.splitlines()
    assert "can't be fetched: Connection refused" in line
    assert str(tmp_path / "jars") in line
    assert "spark.jars.ivySettings" in line
    assert contents(tmp_path / "jars") == set()


def test_folder_that_can_not_be_made(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory") as error:
        ensure_delta_jars(tmp_path / "file" / "jars")
    assert "MLOPS_HOME" in error.value.fix
