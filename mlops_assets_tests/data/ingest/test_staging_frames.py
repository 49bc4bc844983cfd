"""Staging over the executors against staging in this process: the same rows, reasons, records and refusals."""

from __future__ import annotations

import importlib
import sys
import tempfile
import zipfile
import zipimport
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.data.columns import BATCH_ID, INGESTED_AT, ROW_NUMBER
from mlops_assets.data.ingest import staging_frames
from mlops_assets.data.ingest.staged_files import BAD, GOOD, stem_of
from mlops_assets.data.ingest.staging import Parts, StagedLoad, stage_load
from mlops_assets.data.ingest.staging_frames import _forget_archives, _keep, reads_apart, stage_over_cluster
from mlops_assets.data.sources.base import SourceBatch
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SourceError, StorageError
from mlops_assets.lakehouse import loading
from mlops_assets.lakehouse.transaction_tables import MANIFEST, QUARANTINED, RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.data.ingest.test_staging import CARDS, HALF, KEYED, KEYED_ROWS, csv, keyed

if TYPE_CHECKING:
    from collections.abc import Callable

    from pyspark.sql import SparkSession

    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.load_report import LoadReport


def given_batch(number: int, content: int, rows: list[tuple[int, int, str, str]]) -> SourceBatch:
    """Read an input that a test has made up; an empty one can't be read."""
    if not rows:
        raise SourceError("nothing in it", where=f"{number}.csv", fix="-")
    return SourceBatch(f"{number}.csv", f"hash-{content}", pa.table(keyed(rows)))


def staged_rows(folder: Path, kind: str) -> list[dict[str, Any]]:
    """Return the staged rows by batch and position, without the time at which they came in."""
    rows = [row for path in (folder / kind).glob("*.parquet") for row in pq.read_table(path).to_pylist()]
    for row in rows:
        del row[INGESTED_AT]
    return sorted(rows, key=lambda row: (row[BATCH_ID], row[ROW_NUMBER]))


def without_times(load: StagedLoad) -> tuple[Any, ...]:
    """Return all that is known of a load but the times of its records."""
    records = [replace(record, recorded_at="") for record in load.records]
    errors = [(type(error), str(error)) for error in load.errors]
    return records, load.known, load.known_rows, errors, load.reasons, load.findings, load.key_range


@pytest.mark.proof  # a Spark job for each example
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(KEYED_ROWS, min_size=1, max_size=4),
    st.lists(st.integers(0, 3), min_size=1, max_size=8),
    st.booleans(),
    st.sampled_from([1, 2, 512]),
)
def test_the_executors_stage_what_this_process_does(
    spark: SparkSession,
    batches: list[list[tuple[int, int, str, str]]],
    deliveries: list[int],
    with_key: bool,
    tasks: int,
):
    """Good and bad rows, doubled keys, unreadable, refused and known inputs, content that comes twice, shared files."""
    contract = KEYED.model_copy(update={"key": "id" if with_key else None, "max_bad_share": 0.6})
    reads = [
        partial(given_batch, number, content, batches[content])
        for number, content in enumerate(deliveries)
        if content < len(batches)
    ]
    if not reads:
        return
    with tempfile.TemporaryDirectory() as name:
        here, there = Path(name) / "here", Path(name) / "there"
        here.mkdir()
        there.mkdir()

        expected = stage_load(Parts(reads), contract, here, known=["hash-0"])
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(staging_frames, "_TASKS", tasks)
            found = stage_over_cluster(spark, reads, contract, there, known=["hash-0"])

        for kind in (GOOD, BAD):
            assert len(list((there / kind).iterdir())) <= tasks
        assert without_times(found) == without_times(expected)
        for kind in (GOOD, BAD):
            assert staged_rows(there, kind) == staged_rows(here, kind)
        times = [record.recorded_at for record in found.records]
        assert times == sorted(set(times)), "each input has a time of its own, in order"


def test_files_of_other_tries_are_deleted_and_missing_ones_are_noticed(tmp_path: Path):
    (tmp_path / "in").mkdir()
    (tmp_path / "staging").mkdir()
    csv(tmp_path / "in" / "a.csv")
    stage_load(FilesSource(str(tmp_path / "in")), CARDS, tmp_path / "staging", known=[])
    folder = tmp_path / "staging" / GOOD
    (file,) = folder.iterdir()
    stem = stem_of(file)
    other = file.rename(folder / "dead-00000.parquet")
    file.hardlink_to(other)

    _keep(tmp_path / "staging", {stem})

    assert [path.name for path in folder.iterdir()] == [file.name]
    file.unlink()
    with pytest.raises(
        StorageError, match=r"have staged 1 inputs, or parts of them, and 0 are here.* Fix: keep the tables where"
    ):
        _keep(tmp_path / "staging", {stem})


def test_what_lies_in_an_archive_is_found_after_archives_are_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    archive = tmp_path / "packed.zip"
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("packed_one.py", "")
        packed.writestr("packed_two.py", "")
    monkeypatch.syspath_prepend(archive)
    importlib.import_module("packed_one")
    assert isinstance(sys.path_importer_cache[str(archive)], zipimport.zipimporter)

    _forget_archives()

    assert not any(isinstance(finder, zipimport.zipimporter) for finder in sys.path_importer_cache.values())
    assert str(archive) in str(importlib.import_module("packed_two").__file__)


def test_only_places_that_every_machine_sees_are_read_by_others(spark: SparkSession, tmp_path: Path):
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file in files:
        csv(file)

    def seen_by(location: str) -> str:
        return FilesSource(location, may_be_empty=True).divided(tmp_path, ()).seen_by

    assert seen_by("/Volumes/a/b/c/*.csv, https://bank.example/x.csv") == "all"
    assert seen_by(f"/Volumes/a/b/c/*.csv, {files[0]}") == "machine"
    assert seen_by(f"/Volumes/a/b/c/*.csv, file://{files[0]}") == "machine"
    assert seen_by(f"memory://in/*.csv, {files[0]}") == "process"
    assert reads_apart(spark, "machine"), "here executors are on this machine"
    assert reads_apart(spark, "all")
    assert not reads_apart(spark, "process")


@pytest.mark.proof  # loads seventy files twice
def test_many_files_get_into_the_tables_as_few_do(
    new_lakehouse: Callable[[], Lakehouse], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """With bad rows, content that comes twice, and an empty file; then all of it a second time."""
    for number in range(66):
        csv(tmp_path / f"{number:03}.csv", amount=["1", "x" if number % 5 == 0 else "2", str(number)])
    (tmp_path / "005.csv").write_bytes((tmp_path / "006.csv").read_bytes())
    (tmp_path / "007.csv").write_bytes(b"")

    def loaded(*, apart: bool) -> tuple[list[LoadReport], dict[str, list[str]]]:
        lakehouse = new_lakehouse()
        with monkeypatch.context() as patch:
            if apart:
                patch.setattr(loading, "stage_load", None)
            else:
                patch.setattr(loading, "MANY_INPUTS", 1_000)
            with lakehouse.exclusive(RAW):
                reports = [loading.load(TransactionStore(lakehouse, HALF), FilesSource(str(tmp_path))) for _ in "ab"]
        rows = {
            name: lakehouse.read(name, lakehouse.require(name, made_by=name).version).drop(INGESTED_AT, "recorded_at")
            for name in (RAW, QUARANTINED, MANIFEST)
        }
        return reports, {name: sorted(str(row.asDict()) for row in found.collect()) for name, found in rows.items()}

    (expected, tables), (found, others) = loaded(apart=False), loaded(apart=True)

    assert others == tables
    assert (len(tables[RAW]), len(tables[QUARANTINED])) == (64 * 3 - 13, 13)
    for one, other in zip(expected, found, strict=True):
        assert [replaced.refusal for replaced in (one, other)] == [one.refusal] * 2
        for name in ("rows", "accepted", "quarantined", "known", "reasons", "summary", "blames_input"):
            assert getattr(other, name) == getattr(one, name), name
        for name in ("inputs_added", "inputs_known", "inputs_refused", "outcomes"):
            assert getattr(other, name) == getattr(one, name), name
    assert expected[1].accepted == 0


@pytest.mark.parametrize("tasks", [1, 2, 512])
def test_many_small_inputs_share_files_and_content_that_comes_twice_is_in_them_once(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tasks: int
):
    monkeypatch.setattr(staging_frames, "_TASKS", tasks)
    rows = [[(number, number, "1.0", "0"), (100 + number, number, "x", "0")] for number in range(3)]
    reads = [partial(given_batch, number, content, rows[content]) for number, content in enumerate([0, 1, 1, 0, 2])]

    found = stage_over_cluster(spark, reads, KEYED.model_copy(update={"max_bad_share": 0.6}), tmp_path, known=[])

    assert [record.source for record in found.records] == ["0.csv", "1.csv", "4.csv"]
    assert found.known == ["2.csv", "3.csv"]
    for kind, first in ((GOOD, 0), (BAD, 1)):
        assert len(list((tmp_path / kind).iterdir())) == min(tasks, 3)
        staged = [(row[BATCH_ID], row[ROW_NUMBER]) for row in staged_rows(tmp_path, kind)]
        assert staged == [(f"hash-{content}", first) for content in range(3)]
