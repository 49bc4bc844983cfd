"""Files that a stream finds: each of their rows gets into the table once, whatever dies, comes twice or is refused."""

from __future__ import annotations

import gzip
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops_assets.assets.sources import StreamTransactions
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import SourceError, StorageError
from mlops_assets.lakehouse import arriving_files
from mlops_assets.lakehouse.arriving_files import ArrivingFiles, reader_options
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.lakehouse.transactions import TransactionStore
from mlops_assets_tests.assets.harness import load as invoked
from mlops_assets_tests.assets.harness import replaced, transactions, write_csv

pytestmark = [pytest.mark.proof, pytest.mark.timeout(600)]  # reason: streams on Spark, and the first starts it
ROWS = 200


class Died(BaseException):
    """Stands for the end of the process: nothing handles it."""


@pytest.fixture
def store(lakehouse: Lakehouse) -> TransactionStore:
    return TransactionStore(lakehouse, load_contract("creditcard"), "a run")


@pytest.fixture
def landing(tmp_path: Path) -> Path:
    folder = tmp_path / "in 100% here"
    folder.mkdir()
    return folder


@pytest.fixture
def arriving(lakehouse: Lakehouse, landing: Path) -> ArrivingFiles:
    return ArrivingFiles(lakehouse, str(landing), settle_seconds=0)


def rows(seed: int) -> pa.Table:
    return transactions(ROWS, seed=seed, fraud_rate=0.1)


def contents(table: pd.DataFrame) -> list[tuple[float, ...]]:
    ordered = table[sorted(table.columns)].astype(float).round(9)
    return sorted(ordered.itertuples(index=False, name=None))


def in_table(store: TransactionStore) -> list[tuple[float, ...]]:
    raw = store.lakehouse.require(RAW, made_by=RAW)
    names = list(store.contract.column_names)
    return contents(store.lakehouse.read(RAW, raw.version).select(*names).toPandas())


def in_files(*files: Path) -> list[tuple[float, ...]]:
    """Read files with pandas alone."""
    read = [pd.read_parquet(file) if file.suffix == ".parquet" else pd.read_csv(file) for file in files]
    return contents(pd.concat(read).rename(columns=str.lower))


def plain_text(table: pa.Table) -> bytes:
    return bytes(table.to_pandas().to_csv(index=False).encode())


def waiting(arriving: ArrivingFiles) -> list[str]:
    return sorted(name for names in arriving._lists().values() for name in names)


def test_files_of_every_name_arrive_in_two_loads_and_nothing_else_does(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles
):
    blank, percent, comma = landing / "a b.csv", landing / "a%20b.csv", landing / "c,d?[e].csv"
    write_csv(rows(1), blank)
    write_csv(rows(2), percent)
    pq.write_table(rows(3), landing / "ü.parquet")
    for hidden in ("_draft.csv", ".hidden.csv", "_x=1.csv", "sub/n.csv", "day=1/p.csv", "notes.txt"):
        write_csv(rows(9), landing / hidden)

    first = arriving.load_into(store)

    assert len(first.inputs_added) == 3
    assert first.refusal == "raw_transactions is incomplete"
    assert in_table(store) == in_files(blank, percent, landing / "ü.parquet")

    write_csv(rows(4), comma)
    packed = landing / "E.CSV.GZ"
    packed.write_bytes(gzip.compress(plain_text(rows(6))))
    pq.write_table(rows(5), landing / "late.parquet")
    month_ago = time.time() - 30 * 86_400
    os.utime(landing / "late.parquet", (month_ago, month_ago))
    second = arriving.load_into(store)
    third = arriving.load_into(store)

    assert second.inputs_added == [str(packed), str(comma), str(landing / "late.parquet")]
    plain = landing.parent / "E.csv"
    plain.write_bytes(plain_text(rows(6)))
    assert in_table(store) == in_files(blank, percent, comma, plain, *landing.glob("*.parquet"))
    assert third.summary == "no input"
    assert waiting(arriving) == []


def test_nothing_is_lost_or_doubled_wherever_it_dies(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles, monkeypatch: pytest.MonkeyPatch
):
    write_csv(rows(1), landing / "a.csv")
    write_csv(rows(2), landing / "b.csv")

    def dies_at(name: str, *, after: bool) -> None:
        """Load once, and die before or after a function is called."""
        real: Callable[..., object] = getattr(arriving_files, name)

        def dying(*args: object, **kwargs: object) -> None:
            if after:
                real(*args, **kwargs)
            raise Died

        with monkeypatch.context() as patched:
            patched.setattr(arriving_files, name, dying)
            with pytest.raises(Died):
                arriving.load_into(store)

    dies_at("load", after=False)  # on the list, and not in the table
    assert waiting(arriving) == ["a.csv", "b.csv"]
    write_csv(rows(3), landing / "c.csv")
    dies_at("load", after=True)  # in the table, and still on the list
    arriving.load_into(store)
    assert in_table(store) == in_files(*landing.glob("*.csv"))

    write_csv(rows(4), landing / "d.csv")
    lists = arriving._lists

    def found_only() -> None:
        raise Died

    object.__setattr__(arriving, "_lists", found_only)
    with pytest.raises(Died):
        arriving.load_into(store)  # the list is written, and nobody has read it
    object.__setattr__(arriving, "_lists", lists)
    _take_back_last_micro_batch(arriving)
    shutil.copy(landing / "d.csv", landing / "the same again.csv")
    again = arriving.load_into(store)

    assert again.accepted == ROWS
    assert in_table(store) == in_files(*(landing / f"{name}.csv" for name in "abcd"))
    assert waiting(arriving) == []


def _take_back_last_micro_batch(arriving: ArrivingFiles) -> None:
    """Bring the checkpoint to where it is when a process dies after `foreachBatch` and before the stream's commit."""
    (seen,) = arriving._state.glob("seen-*")
    last = max((path for path in (seen / "commits").iterdir() if path.name.isdigit()), key=lambda path: int(path.name))
    last.unlink()
    (last.parent / f".{last.name}.crc").unlink(missing_ok=True)


@pytest.mark.parametrize("what", ["checkpoint", "everything", "asked for"])
def test_what_a_stream_remembers_may_be_lost(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles, what: str
):
    write_csv(rows(1), landing / "a.csv")
    arriving.load_into(store)
    write_csv(rows(2), landing / "b.csv")
    if what == "checkpoint":
        (seen,) = arriving._state.glob("seen-*")
        shutil.rmtree(seen)
    elif what == "everything":
        shutil.rmtree(arriving._state)

    report = arriving.load_into(store, again=what == "asked for")

    assert (report.accepted, report.known) == (ROWS, ROWS)
    assert in_table(store) == in_files(landing / "a.csv", landing / "b.csv")


def test_a_new_table_gets_all_files_again(store: TransactionStore, landing: Path, arriving: ArrivingFiles):
    write_csv(rows(1), landing / "a.csv")
    arriving.load_into(store)
    for table in Path(store.lakehouse.root).iterdir():
        if not table.name.startswith("_arrivals"):
            shutil.rmtree(table)

    assert arriving.load_into(store).accepted == ROWS


def test_a_refused_file_comes_again_until_it_is_mended_and_holds_up_no_other(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles
):
    bad, good = landing / "bad.csv", landing / "good.csv"
    (landing / "empty.csv").touch()
    with pytest.raises(SourceError, match="the file is empty") as raised:
        arriving.load_into(store)
    assert "Py4J" not in str(raised.value)
    write_csv(replaced(rows(1), "amount", ["-1.00"] * 100), bad)
    write_csv(rows(2), good)

    first = arriving.load_into(store)

    assert first.inputs_refused == [str(bad), str(landing / "empty.csv")]
    assert first.blames_input
    assert in_table(store) == in_files(good)
    write_csv(rows(3), landing / "later.csv")
    second = arriving.load_into(store)
    assert second.inputs_refused == first.inputs_refused
    assert second.inputs_added == [str(landing / "later.csv")]

    write_csv(rows(1), bad)
    (landing / "empty.csv").unlink()
    third = arriving.load_into(store)

    assert third.inputs_refused == []
    assert third.inputs_added == [str(bad)]
    assert in_table(store) == in_files(*landing.glob("*.csv"))
    assert waiting(arriving) == []


def test_a_file_that_is_still_being_written_waits(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles, monkeypatch: pytest.MonkeyPatch
):
    write_csv(rows(1), landing / "whole.csv")
    growing = landing / "growing.csv"
    write_csv(rows(2), growing)
    text = growing.read_text("utf-8")
    lines = text.splitlines(keepends=True)
    growing.write_text("".join(lines[:50]), "utf-8")
    monkeypatch.setattr(time, "sleep", lambda seconds: growing.write_text(text, "utf-8") if seconds == 60.0 else None)

    first = replace(arriving, settle_seconds=60.0).load_into(store)
    assert first.summary.endswith("left for the next load, because they are still being written: growing.csv")
    assert waiting(arriving) == ["growing.csv", "whole.csv"]
    second = arriving.load_into(store)

    assert second.inputs_added == [str(growing)]
    assert in_table(store) == in_files(landing / "whole.csv", growing)


def test_a_file_that_was_empty_when_it_was_found_and_one_that_is_written_anew_come_again(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles
):
    opened, old = landing / "opened.csv", landing / "old.csv"
    write_csv(rows(1), old)
    opened.touch()
    assert arriving.load_into(store).inputs_refused == [str(opened)]
    (seen,) = arriving._state.glob("seen-*")
    assert "opened.csv" in (seen / "sources" / "0" / "0").read_text("utf-8"), "Spark has seen it"
    assert waiting(arriving) == [], "and not given it"
    write_csv(rows(2), opened)
    write_csv(rows(3), old)

    assert arriving.load_into(store).inputs_added == [str(old), str(opened)]
    assert arriving.load_into(store).summary == "no input"


def test_files_that_vanish_with_their_folder_are_not_forgotten(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles, monkeypatch: pytest.MonkeyPatch
):
    write_csv(rows(1), landing / "a.csv")
    arriving.load_into(store)
    write_csv(rows(2), landing / "b.csv")
    with monkeypatch.context() as patched:
        patched.setattr(arriving_files, "load", _dies)
        with pytest.raises(Died):
            arriving.load_into(store)
    shutil.move(landing, landing.parent / "unmounted")

    with pytest.raises(StorageError, match=r"new files can't be found: .*PATH_NOT_FOUND") as raised:
        arriving.load_into(store)
    assert "\n" not in str(raised.value)
    landing.mkdir()
    with pytest.raises(SourceError, match="1 files that were found there are gone, and the folder is empty"):
        arriving.load_into(store)
    landing.rmdir()
    shutil.move(landing.parent / "unmounted", landing)
    assert arriving.load_into(store).inputs_added == [str(landing / "b.csv")]


def _dies(*args: object) -> None:
    raise Died


def test_an_empty_folder_is_one_clear_error(store: TransactionStore, arriving: ArrivingFiles):
    with pytest.raises(SourceError, match="no file has arrived yet"):
        arriving.load_into(store)


def test_a_list_that_another_run_is_writing_is_left_alone(
    store: TransactionStore, landing: Path, arriving: ArrivingFiles
):
    write_csv(rows(1), landing / "a.csv")
    arriving.load_into(store)
    (seen,) = arriving._state.glob("seen-*")
    (arriving._state / "lists" / seen.name / "7").mkdir()

    arriving.load_into(store)

    assert (arriving._state / "lists" / seen.name / "7").is_dir()


def test_a_url_with_credentials_is_refused_before_anything_is_written(store: TransactionStore):
    with pytest.raises(SourceError, match="credentials in its URL") as raised:
        ArrivingFiles(store.lakehouse, "s3://user:hunter2@bucket/in").load_into(store)
    assert "hunter2" not in str(raised.value)


def test_no_content_is_read_to_find_a_file(store: TransactionStore, landing: Path, arriving: ArrivingFiles):
    # Spark can't hold a file of more than 2 GB in a row: it fails if it reads it.
    with (landing / "big.csv").open("wb") as file:
        file.truncate(3 << 30)

    with pytest.raises(SourceError, match="big"):
        arriving.load_into(store)
    assert waiting(arriving) == ["big.csv"]


def test_a_link_out_of_the_folder_is_not_followed(store: TransactionStore, landing: Path, arriving: ArrivingFiles):
    secret = write_csv(rows(1), landing.parent / "elsewhere.csv")
    (landing / "link.csv").symlink_to(secret.location)
    write_csv(rows(2), landing / "a.csv")

    assert arriving.load_into(store).inputs_added == [str(landing / "a.csv")]


def test_the_asset_loads_what_a_stream_finds(lakehouse: Lakehouse, landing: Path):
    source = StreamTransactions(location=str(landing), settle_seconds=0)
    nothing = invoked(lakehouse, source)
    assert nothing.failure is not None
    assert "no file has arrived yet" in nothing.message
    write_csv(rows(1), landing / "a.csv")

    assert invoked(lakehouse, source).metadata["rows_added"] == ROWS
    assert invoked(lakehouse, source).metadata["rows_added"] == 0
    again = StreamTransactions(location=str(landing), settle_seconds=0, again=True)
    assert invoked(lakehouse, again).metadata["rows_already_known"] == ROWS


def test_auto_loader_gets_the_options_of_its_documentation():
    kind, options = reader_options(auto_loader=True)

    assert kind == "cloudFiles"
    assert options == {
        "cloudFiles.format": "binaryFile",
        "cloudFiles.allowOverwrites": "true",
        "cloudFiles.maxFilesPerTrigger": "1000",
    }
