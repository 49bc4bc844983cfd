"""The ledger of champions in Unity Catalog, through a SQL warehouse that executes every statement for real.

The witness is another library: delta-rs reads the table's folder, which the warehouse's Spark has written.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import deltalake
import pytest
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.api.mlflow_tracking import ARTIFACTS
from mlops_assets.cli.main import main
from mlops_assets.databricks.login import Credentials
from mlops_assets.databricks.statements import Statements
from mlops_assets.errors import LedgerError, StatementError
from mlops_assets.lineage import LEDGER_HEAD_TAG
from mlops_assets.registry.alias_moves import ChampionLedger, Move
from mlops_assets.registry.golden import keep_golden
from mlops_assets.registry.ledger import CHAMPION_LEDGER, Entry, following, require_chain
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, by_alias
from mlops_assets.registry.warehouse_ledger import WarehouseLedger
from mlops_assets.resources.delta_jars import ensure_delta_jars
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets.tracking.store import Store
from mlops_assets_tests.mlflow_server import running_server
from mlops_assets_tests.registry.test_verified import registered, rows, trained

CATALOG, SCHEMA = "main", "mlops_assets_dev"
PROMOTED = Move("promoted", "better than 'before'; \"much\"", '{"verdict": "promote"}')
pytestmark = pytest.mark.proof  # a server, a warehouse and its Spark


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory, shared_home: Path) -> Iterator[Workspace]:
    if sys.platform != "linux":
        pytest.skip("the machines of a loopback cluster need Linux namespaces")
    with (
        running_server(tmp_path_factory.mktemp("server"), ARTIFACTS) as server,
        Workspace(
            tmp_path_factory.mktemp("workspace"),
            mlflow_server=server.uri,
            delta_jars=ensure_delta_jars(shared_home / "jars"),
        ) as made,
    ):
        made.catalog.add_schema(f"{CATALOG}.{SCHEMA}")
        yield made


@pytest.fixture(scope="module")
def warehouse(workspace: Workspace) -> Statements:
    """A warehouse that has started, as one in use has."""
    made = Statements(lambda: Credentials(workspace.host, token=workspace.token), workspace.warehouses.add())
    assert made.run("SELECT :a", {"a": ("BIGINT", "1")}, catalog=CATALOG, schema=SCHEMA) == [["1"]]
    return made


@pytest.fixture(autouse=True)
def login(workspace: Workspace, warehouse: Statements, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given = {
        "DATABRICKS_HOST": workspace.host,
        "DATABRICKS_TOKEN": workspace.token,
        "MLOPS_TARGET": "databricks",
        "MLOPS_HOME": str(tmp_path / "home"),
        "MLOPS_DATABRICKS_HOST": workspace.host,
        "MLOPS_DATABRICKS_WAREHOUSE_ID": warehouse.warehouse_id,
    }
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir("/")


@pytest.fixture(scope="module")
def model() -> str:
    return f"{CATALOG}.{SCHEMA}.{Settings().spec().registered_model}"


@pytest.fixture
def store() -> Store:
    there = Tracking(
        mlflow_tracking_uri="databricks", mlflow_registry_uri="databricks-uc", experiment_folder="/Shared/"
    )
    return there.connect()


def written(workspace: Workspace, schema: str = SCHEMA) -> list[Entry]:
    """Return the entries as another library reads the table's files."""
    folder = workspace.warehouses.folder_of(f"{CATALOG}.{schema}.{CHAMPION_LEDGER}")
    found = deltalake.DeltaTable(folder).to_pyarrow_table().to_pylist()
    return sorted((Entry(**row) for row in found), key=lambda entry: entry.number)


def test_promotion_and_rollback_write_the_chain_within_seconds_and_without_java_here(
    workspace: Workspace,
    warehouse: Statements,
    store: Store,
    model: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
):
    for number in (1, 2):
        assert registered(store, trained(rounds=number), model).number == number
        keep_golden(store, load_verified(store, model, number), rows())
    ledger = ChampionLedger(store, model, WarehouseLedger(warehouse, CATALOG, SCHEMA))
    assert ledger.entries() == [], "no table yet"
    for number in (1, 2):
        ledger.move(number, PROMOTED)
    java = tmp_path / "java"
    java.mkdir()
    (java / "java").write_text(f"#!/bin/sh\necho started > {java}/started\nexit 1\n")
    (java / "java").chmod(0o755)
    monkeypatch.setenv("PATH", f"{java}:/usr/bin:/bin")

    started = time.monotonic()
    code = main(("rollback", "--reason", "too many alerts"))
    took = time.monotonic() - started

    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "version 1 is champion again, instead of version 2 (too many alerts)" in captured.out
    assert took < 10, f"{took:.1f} s"
    assert not (java / "started").exists()
    found = by_alias(store, model, CHAMPION)
    assert found is not None
    assert found.number == 1
    entries = written(workspace)
    require_chain(entries, where="the files")
    assert [(entry.from_version, entry.to_version, entry.event) for entry in entries] == [
        (0, 1, "promoted"),
        (1, 2, "promoted"),
        (2, 1, "rolled back"),
    ]
    assert (entries[0].reason, entries[0].verdict) == (PROMOTED.reason, PROMOTED.verdict)
    head = store.client.get_registered_model(model).tags[LEDGER_HEAD_TAG]
    assert head == f"3:{entries[-1].digest}"
    assert main(("champion",)) == 0
    assert "version 1  rolled back: too many alerts" in capsys.readouterr().out
    properties = (
        deltalake.DeltaTable(workspace.warehouses.folder_of(f"{CATALOG}.{SCHEMA}.{CHAMPION_LEDGER}"))
        .metadata()
        .configuration
    )
    assert (properties["delta.appendOnly"], properties["delta.isolationLevel"]) == ("true", "Serializable")


@pytest.mark.timeout(900)  # some thirty statements
def test_a_row_that_was_changed_left_out_or_put_in_is_noticed(workspace: Workspace, warehouse: Statements):
    workspace.catalog.add_schema(f"{CATALOG}.tampered")
    ledger = WarehouseLedger(warehouse, CATALOG, "tampered")
    last: list[Entry] = []
    for number in (1, 2, 3):
        last.append(following(last, replace(entry_of("m"), from_version=number - 1, to_version=number)))
        ledger.append(last[-1])
    assert ledger.read("m") == last == written(workspace, "tampered")
    folder = workspace.warehouses.folder_of(f"{CATALOG}.tampered.{CHAMPION_LEDGER}")

    def sql(statement: str) -> None:
        warehouse.run(statement, {}, catalog=CATALOG, schema="tampered")

    with pytest.raises(StatementError, match="DELTA_CANNOT_MODIFY_APPEND_ONLY"):
        sql(f"UPDATE {CHAMPION_LEDGER} SET to_version = 9 WHERE number = 2")
    sql(f"ALTER TABLE {CHAMPION_LEDGER} SET TBLPROPERTIES ('delta.appendOnly' = 'false')")
    clean = deltalake.DeltaTable(folder).version()
    for statement, said in (
        (f"UPDATE {CHAMPION_LEDGER} SET to_version = 9 WHERE number = 2", "entry 2 was changed"),
        (f"UPDATE {CHAMPION_LEDGER} SET reason = 'another' WHERE number = 3", "entry 3 was changed"),
        (f"DELETE FROM {CHAMPION_LEDGER} WHERE number = 2", "entry 2 is missing"),
        (f"INSERT INTO {CHAMPION_LEDGER} SELECT * FROM {CHAMPION_LEDGER} WHERE number = 1", "missing or there twice"),
    ):
        sql(statement)
        with pytest.raises(LedgerError, match=said):
            ledger.read("m")
        sql(f"RESTORE TABLE {CHAMPION_LEDGER} TO VERSION AS OF {clean}")
        assert ledger.read("m") == last, "the control"


def entry_of(model: str) -> Entry:
    return Entry(0, "", model, 0, 1, "promoted", "better")


def test_of_two_writers_that_read_the_same_one_writes_and_the_other_is_told_to_run_again(
    workspace: Workspace, warehouse: Statements
):
    """Both are past their reading when they write; then the one that lost writes the next row."""
    workspace.catalog.add_schema(f"{CATALOG}.raced")
    ledger = WarehouseLedger(warehouse, CATALOG, "raced")
    chain: list[Entry] = []
    for round_ in range(3):
        rivals = [following(chain, replace(entry_of("m"), to_version=10 * round_ + who)) for who in (1, 2)]
        barrier = threading.Barrier(2)
        lost: list[tuple[Entry, LedgerError]] = []

        def write(
            entry: Entry, barrier: threading.Barrier = barrier, lost: list[tuple[Entry, LedgerError]] = lost
        ) -> None:
            barrier.wait()
            try:
                ledger.append(entry)
            except LedgerError as refused:
                lost.append((entry, refused))

        threads = [threading.Thread(target=write, args=(entry,)) for entry in rivals]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        ((late, error),) = lost
        assert "another process has written an entry" in str(error)
        assert error.transient
        chain = ledger.read("m")
        assert [entry.digest for entry in chain[-1:]] == [entry.digest for entry in rivals if entry != late]
        ledger.append(following(chain, replace(late, number=0, at="", previous="", digest="")))
        chain = ledger.read("m")
        assert chain[-1].to_version == late.to_version
    assert written(workspace, "raced") == chain
    require_chain(chain, where="the files")


def test_an_answer_that_is_lost_is_no_second_row(workspace: Workspace, warehouse: Statements):
    """The entry is there, and what its insert answered never arrived."""
    workspace.catalog.add_schema(f"{CATALOG}.lost")
    ledger = WarehouseLedger(Forgetful(warehouse), CATALOG, "lost")
    first = following([], entry_of("m"))

    ledger.append(first)

    assert WarehouseLedger(warehouse, CATALOG, "lost").read("m") == [first]
    with pytest.raises(LedgerError, match="another process has written an entry"):
        ledger.append(following([], replace(entry_of("m"), to_version=5)))


class Forgetful:
    """A warehouse whose answers to inserts are lost on their way."""

    def __init__(self, warehouse: Statements) -> None:
        self._warehouse = warehouse

    def run(self, statement: str, parameters: Any, *, catalog: str, schema: str) -> list[list[str | None]]:
        found = self._warehouse.run(statement, parameters, catalog=catalog, schema=schema)
        if statement.startswith("INSERT"):
            raise StatementError("the connection is gone", where="here", fix="again", transient=True)
        return found


def test_what_the_warehouse_refuses_is_one_line_and_changes_nothing(
    workspace: Workspace, warehouse: Statements, model: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
):
    monkeypatch.setenv("MLOPS_DATABRICKS_WAREHOUSE_ID", "0123456789abcdef")
    assert main(("champion",)) != 0
    error = capsys.readouterr().err
    assert "SQL warehouse 0123456789abcdef does not exist" in error
    assert "check `warehouse_id` in the profile" in error
    monkeypatch.setenv("MLOPS_DATABRICKS_WAREHOUSE_ID", "starter")
    assert main(("champion",)) == 2
    assert "warehouse_id" in capsys.readouterr().err

    workspace.catalog.revoke("USE SCHEMA", f"{CATALOG}.{SCHEMA}", "engineer@example.com")
    try:
        with pytest.raises(LedgerError, match="USE SCHEMA"):
            WarehouseLedger(warehouse, CATALOG, SCHEMA).read(model)
    finally:
        workspace.catalog.grant("USE SCHEMA", f"{CATALOG}.{SCHEMA}", "engineer@example.com")
    with pytest.raises(LedgerError, match=r"Schema 'main\.nowhere' does not exist"):
        WarehouseLedger(warehouse, CATALOG, "nowhere").append(following([], entry_of("m")))


def test_the_statements_are_what_the_sdk_sends(workspace: Workspace, warehouse: Statements):
    """Held against the SDK's own call with the same text: values are bound, never part of the text."""
    WarehouseLedger(warehouse, CATALOG, SCHEMA).read("m' OR '1' = '1")
    sent = [call for call in workspace.calls if call.path == "/api/2.0/sql/statements/"][-1].body
    assert sent is not None
    assert sent["parameters"] == [{"name": "model", "type": "STRING", "value": "m' OR '1' = '1"}]
    assert "OR" not in sent["statement"].replace("ORDER", "")
    client = WorkspaceClient(host=workspace.host, token=workspace.token)
    workspace.catalog.add_schema(f"{CATALOG}.sdk")
    WarehouseLedger(warehouse, CATALOG, "sdk").append(following([], entry_of("m")))
    names = ", ".join(asdict(entry_of("m")))
    answer = client.statement_execution.execute_statement(
        f"SELECT {names} FROM {CHAMPION_LEDGER} ORDER BY number",
        warehouse.warehouse_id,
        catalog=CATALOG,
        schema="sdk",
        wait_timeout="30s",
    )
    assert answer.result is not None
    assert len(answer.result.data_array or []) == len(written(workspace, "sdk")) == 1
