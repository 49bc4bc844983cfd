from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.download import HttpPolicy
from mlops_assets.data.sources.openml import OpenMLSource
from mlops_assets.errors import SchemaMismatchError, SettingsError, SourceError, StorageError
from mlops_assets_tests.data.sources.openml_server import OpenMLServer, ServedDataSet
from mlops_assets_tests.data.sources.web_server import Reply

NAME = "CreditCardFraudDetection"
HEAD = b"@relation card\n@attribute Time real\n@attribute V1 real\n@attribute Class {'0','1'}\n@data\n"
ARFF = HEAD + b"0,-1.5,'0'\n1,?,'1'\n"


@pytest.fixture
def card(openml: OpenMLServer) -> OpenMLServer:
    openml.add(ServedDataSet(42175, NAME, 1, ARFF))
    return openml


@pytest.fixture
def load(openml: OpenMLServer, hasty: HttpPolicy, tmp_path: Path) -> Any:
    """Load the only batch from the loopback server."""

    def load(dataset: str | int = NAME, version: int | None = None, cache: Path | None = tmp_path / "c") -> SourceBatch:
        (batch,) = OpenMLSource(dataset, version, openml.url, cache, http=hasty).batches()
        return batch

    return load


def test_a_named_data_set(card: OpenMLServer, load: Any):
    batch = load()

    assert batch.origin == f"openml:{NAME}@1"
    assert batch.table.to_pydict() == {"time": ["0", "1"], "v1": ["-1.5", None], "class": ["0", "1"]}
    assert card.asked("list") == card.asked("description") == card.asked("file") == 1


@pytest.mark.parametrize("dataset", [42175, "42175"])
def test_a_data_set_by_id(card: OpenMLServer, load: Any, dataset: str | int):
    assert load(dataset).origin == f"openml:{NAME}@1"
    assert card.asked("list") == 0


def test_the_newest_active_version_is_taken_unless_one_is_named(card: OpenMLServer, load: Any):
    card.add(ServedDataSet(42397, NAME, 10, ARFF + b"2,3,'0'\n"))
    card.add(ServedDataSet(50000, NAME, 9, ARFF))
    card.add(ServedDataSet(60000, NAME, 11, ARFF, status="deactivated"))
    card.add(ServedDataSet(70000, NAME.lower(), 12, ARFF))

    assert load().origin == f"openml:{NAME}@10"
    assert load().table.num_rows == 3
    assert load(version=9).origin == f"openml:{NAME}@9"
    assert load(NAME.upper()).origin == f"openml:{NAME.lower()}@12"


def test_a_second_load_downloads_no_data(card: OpenMLServer, load: Any, tmp_path: Path):
    first, second = load(), load()

    assert first.content_hash == second.content_hash
    assert first.table.equals(second.table)
    assert card.asked("file") == 1
    assert len(list((tmp_path / "c").iterdir())) == 1


def test_without_a_folder_each_load_downloads(card: OpenMLServer, load: Any):
    assert load(cache=None).content_hash == load(cache=None).content_hash
    assert card.asked("file") == 2


def test_a_damaged_cache_is_replaced(card: OpenMLServer, load: Any, tmp_path: Path):
    load()
    (cached,) = (tmp_path / "c").iterdir()
    cached.write_bytes(ARFF[:-5])

    assert load().table.num_rows == 2
    assert card.asked("file") == 2
    assert cached.read_bytes() == ARFF


def test_loads_at_the_same_time_share_a_cache(card: OpenMLServer, load: Any, tmp_path: Path):
    card.misbehave("file", *[Reply(ARFF, delay=0.05)] * 4)

    with ThreadPoolExecutor(4) as threads:
        batches = list(threads.map(lambda _: load(), range(4)))

    assert len({batch.content_hash for batch in batches}) == 1
    assert [path.read_bytes() for path in (tmp_path / "c").iterdir()] == [ARFF]


def test_parquet_is_read_when_it_is_the_data_file(openml: OpenMLServer, load: Any):
    sink = io.BytesIO()
    pq.write_table(pa.table({"Time": [0.0, 1.0], "Class": [0, 1]}), sink)
    openml.add(ServedDataSet(1, "p", 1, sink.getvalue(), format="parquet"))

    assert load("p").table.equals(pa.table({"time": [0.0, 1.0], "class": [0, 1]}))


def test_a_parquet_copy_without_checksum_is_left_alone(openml: OpenMLServer, load: Any):
    copy = ("parquet_url", f"{openml.url}/datasets/0000/0001/dataset_1.pq")
    openml.add(ServedDataSet(1, "p", 1, ARFF, description=(copy,)))

    assert load("p").table.num_rows == 2
    assert not any(request.path.endswith(".pq") for request in openml.seen)


def test_numbers_as_numbers_and_relative_urls_are_understood(openml: OpenMLServer, load: Any):
    fields = (("id", 5), ("version", 2), ("url", "/data/v1/download/5/x.arff"), ("format", "arff"))
    openml.add(ServedDataSet(5, "n", 2, ARFF, description=fields))

    assert load("n").origin == "openml:n@2"


@pytest.mark.parametrize("endpoint", ["list", "description", "file"])
@pytest.mark.parametrize(
    "bad",
    [
        Reply(status=503),
        Reply(status=429, headers={"Retry-After": "0"}),
        Reply(ARFF, cut=20),
        Reply(hang_up=True),
    ],
    ids=["503", "429", "cut", "hang up"],
)
def test_passing_faults_are_survived(card: OpenMLServer, load: Any, endpoint: Any, bad: Reply):
    card.misbehave(endpoint, bad, bad)

    assert load().table.num_rows == 2
    assert card.asked(endpoint) == 3


@pytest.mark.parametrize("endpoint", ["list", "description", "file"])
@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (Reply(status=503), r"HTTP 503 \(3 tries\)"),
        (Reply(status=429, headers={"Retry-After": "60"}), "HTTP 429; no time is left"),
        (Reply(ARFF, cut=20), "the connection broke before the answer was complete"),
        (Reply(b"<html>log in</html>"), "did not return JSON|not the announced one"),
        (Reply(status=403), "HTTP 403"),
        (Reply(status=302, headers={"Location": "file:///etc/hostname"}), r"not an http\(s\) URL, or a redirect"),
    ],
    ids=["503", "429", "cut", "html", "403", "redirect"],
)
def test_lasting_faults_are_told_and_leave_no_file(
    card: OpenMLServer, load: Any, endpoint: Any, bad: Reply, problem: str, tmp_path: Path
):
    card.misbehave(endpoint, *[bad] * 3)

    with pytest.raises(SourceError, match=problem) as raised:
        load()
    assert raised.value.where.startswith(card.url)
    assert not list(tmp_path.rglob("*openml*"))


@pytest.mark.parametrize("endpoint", ["list", "description", "file"])
def test_a_slow_server_is_told(card: OpenMLServer, endpoint: Any, impatient: HttpPolicy):
    card.misbehave(endpoint, *[Reply(delay=9)] * impatient.tries)

    with pytest.raises(SourceError, match=r"timeout: no data for 0\.3 s \(2 tries\)"):
        list(OpenMLSource(base_url=card.url, http=impatient).batches())


def test_a_slow_moment_is_survived(card: OpenMLServer, impatient: HttpPolicy):
    card.misbehave("file", Reply(delay=9))

    (batch,) = OpenMLSource(base_url=card.url, http=impatient).batches()

    assert batch.table.num_rows == 2


def test_a_server_that_is_down_is_told(dead_url: str, hasty: HttpPolicy):
    with pytest.raises(SourceError, match=r"no connection to the host \(3 tries\) \[http://127"):
        list(OpenMLSource(base_url=dead_url.replace("//", "//user:secret@"), http=hasty).batches())


@pytest.mark.parametrize(
    "answer",
    [
        b"[]",
        b"null",
        b"{}",
        b'{"data": []}',
        b'{"data": {"dataset": [{"did": 1}]}}',
        b'{"data": {"dataset": [{"did": "one", "name": "x", "version": 1}]}}',
        b'{"data": {"dataset": [{"did": true, "name": "x", "version": 1}]}}',
        b'{"data": {"dataset": "none"}}',
    ],
)
def test_a_list_of_another_shape_is_refused(card: OpenMLServer, load: Any, answer: bytes):
    card.misbehave("list", Reply(answer))

    with pytest.raises(SourceError, match=r"is not a list of data sets|did not return JSON"):
        load()


@pytest.mark.parametrize(
    "field",
    [
        ("id", None),
        ("id", "7"),
        ("name", None),
        ("version", "newest"),
        ("url", ""),
        ("md5_checksum", None),
        ("md5_checksum", "../../etc/passwd"),
        ("status", 1),
        ("format", []),
    ],
)
def test_a_description_of_another_shape_is_refused(openml: OpenMLServer, load: Any, field: tuple[str, Any]):
    openml.add(ServedDataSet(1, "p", 1, ARFF, description=(field,)))

    with pytest.raises(SourceError, match=r"is not a description with .* \[http://127.*/api/v1/json/data/1\]"):
        load("p")


def test_an_endless_answer_is_refused(card: OpenMLServer, load: Any):
    card.misbehave("list", Reply(b" " * (33 << 20)))

    with pytest.raises(SourceError, match="longer than"):
        load()


def test_what_does_not_exist_is_told(card: OpenMLServer, load: Any):
    with pytest.raises(SourceError, match=r"no such data set \[.*data set fraud/2 %\] .*compare the name"):
        load("fraud/2 %")
    with pytest.raises(SourceError, match=r"no such data set \[.*data set 9\].*compare the id"):
        load(9)
    with pytest.raises(SourceError, match=r"no version 2 \[.*choose an active version \(1\)"):
        load(version=2)
    assert card.asked("file") == 0


@pytest.mark.parametrize(
    ("body", "status", "found"),
    [
        (b'{"error":{"code":"111","message":"Unknown dataset"}}', 412, "no such data set"),
        (b'{"type":"x","title":"Dataset Not Found","code":"111","detail":"No dataset"}', 404, "no such data set"),
        (b'<oml:error xmlns:oml="x"><oml:code>111</oml:code></oml:error>', 412, "no such data set"),
        (
            b'{"error":{"code":"112","message":"No access granted"}}',
            412,
            "HTTP 412, OpenML code 112: No access granted",
        ),
        (b"[]", 412, r"the server refuses \(HTTP 412\)"),
    ],
)
def test_errors_of_the_api_are_understood(card: OpenMLServer, load: Any, body: bytes, status: int, found: str):
    card.misbehave("description", Reply(body, status=status))

    with pytest.raises(SourceError, match=found):
        load(42175)


def test_deactivated_data_sets_are_refused(card: OpenMLServer, load: Any):
    card.add(ServedDataSet(2, NAME, 2, ARFF, status="deactivated"))
    card.add(ServedDataSet(3, "old", 1, ARFF, status="deactivated"))
    card.add(ServedDataSet(4, "new", 1, ARFF, status="in_preparation"))

    with pytest.raises(SourceError, match=r"version 2 is deactivated by OpenML .*active version \(1\)"):
        load(version=2)
    with pytest.raises(SourceError, match=r"all versions are deactivated by OpenML .*active version \(none\)"):
        load("old")
    with pytest.raises(SourceError, match="old version 1 is deactivated, not active"):
        load(3)
    with pytest.raises(SourceError, match="new version 1 is in_preparation, not active"):
        load(4)


@pytest.mark.parametrize(
    ("content", "format_", "problem"),
    [
        (HEAD + b"0,1\n", "ARFF", "line 6 has 2 values for 3 attributes"),
        (HEAD + b"0,1,'2'\n", "ARFF", "not among those declared"),
        (HEAD + b"{0 1}\n", "ARFF", "sparse row"),
        (HEAD, "Sparse_ARFF", r"format is Sparse_ARFF; dense ARFF and Parquet"),
        (b"a,b\n1,2\n", "CSV", "format is CSV"),
        (b"PAR1 not really", "parquet", "not a complete Parquet file"),
    ],
)
def test_data_files_that_are_no_table_are_refused(
    openml: OpenMLServer, load: Any, content: bytes, format_: str, problem: str
):
    openml.add(ServedDataSet(1, "p", 4, content, format=format_))

    with pytest.raises(SourceError, match=problem) as raised:
        load("p")
    assert raised.value.where == "openml:p@4"


def test_attributes_that_differ_by_case_are_refused(openml: OpenMLServer, load: Any):
    openml.add(ServedDataSet(1, "p", 1, b"@relation x\n@attribute a real\n@attribute A real\n@data\n1,2\n"))

    with pytest.raises(SchemaMismatchError, match=r"A, a \[openml:p@1\]"):
        load("p")


def test_a_wrong_checksum_is_refused_and_nothing_is_kept(openml: OpenMLServer, load: Any, tmp_path: Path):
    openml.add(ServedDataSet(1, "p", 1, ARFF, description=(("md5_checksum", "0" * 32),)))

    with pytest.raises(SourceError, match=r"not the announced one \(MD5 [0-9a-f]{32}, not 0{32}\)"):
        load("p")
    assert not list((tmp_path / "c").iterdir())


def test_a_data_file_elsewhere_than_on_the_web_is_refused(openml: OpenMLServer, load: Any):
    openml.add(ServedDataSet(1, "p", 1, ARFF, description=(("url", "file:///etc/hostname"),)))

    with pytest.raises(SourceError, match=r"URL is not http\(s\) \[file:///etc/hostname\]"):
        load("p")


@pytest.fixture
def not_a_folder(tmp_path: Path) -> Path:
    (tmp_path / "file").write_bytes(b"")
    return tmp_path / "file" / "cache"


@pytest.mark.usefixtures("card")
def test_a_cache_that_cannot_be_written_is_told(load: Any, not_a_folder: Path):
    with pytest.raises(StorageError, match=rf"can't be used: Not a directory \[{not_a_folder}\]"):
        load(cache=not_a_folder)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"dataset": " "}, "no data set is named"),
        ({"version": 0}, "versions count from 1"),
        ({"dataset": 42175, "version": 1}, "names one version already"),
        ({"base_url": "ftp://user:secret@host"}, r"'ftp://host' is not http\(s\)"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(arguments: dict[str, Any], problem: str):
    with pytest.raises(SettingsError, match=problem):
        OpenMLSource(**arguments)
