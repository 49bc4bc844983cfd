"""Statements on a SQL warehouse: executed for real, with bound and typed parameters, and the states of the platform."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import deltalake
import pytest
from databricks.sdk import WorkspaceClient
from databricks.sdk.errors import BadRequest, InvalidParameterValue, NotFound
from databricks.sdk.service.sql import (
    Disposition,
    ExecuteStatementRequestOnWaitTimeout,
    ServiceErrorCode,
    StatementParameterListItem,
    StatementResponse,
    StatementState,
)

from databricks_loopback import Workspace

SCHEMA: dict[str, Any] = {"catalog": "main", "schema": "statements"}
CREATE = "CREATE TABLE {} (id BIGINT NOT NULL, name STRING) USING DELTA TBLPROPERTIES ('delta.appendOnly' = 'true')"


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory, delta_jars: tuple[Path, ...]) -> Iterator[Workspace]:
    with Workspace(tmp_path_factory.mktemp("warehouses"), delta_jars=delta_jars) as workspace:
        workspace.catalog.add_schema("main.statements")
        yield workspace


@pytest.fixture(scope="module")
def warehouse(own: Workspace) -> str:
    return own.warehouses.add()


@pytest.fixture
def calls(own: Workspace) -> WorkspaceClient:
    return WorkspaceClient(host=own.host, token=own.token)


def parameter(name: str, value: str | None, kind: str | None = None) -> StatementParameterListItem:
    return StatementParameterListItem(name, kind, value)


def done(calls: WorkspaceClient, warehouse: str, text: str, *given: StatementParameterListItem) -> StatementResponse:
    """Execute a statement and return its end."""
    answer = calls.statement_execution.execute_statement(
        text, warehouse, **SCHEMA, parameters=list(given) or None, wait_timeout="50s"
    )
    until = time.monotonic() + 120
    while state(answer) in (StatementState.PENDING, StatementState.RUNNING):
        assert time.monotonic() < until, "the warehouse has not started"
        time.sleep(0.2)
        answer = calls.statement_execution.get_statement(str(answer.statement_id))
    return answer


def state(answer: StatementResponse) -> StatementState:
    assert answer.status is not None
    assert answer.status.state is not None
    return answer.status.state


def failure(answer: StatementResponse) -> str:
    assert state(answer) is StatementState.FAILED
    assert answer.status is not None
    assert answer.status.error is not None
    assert answer.status.error.error_code is ServiceErrorCode.BAD_REQUEST
    return str(answer.status.error.message)


def rows(answer: StatementResponse) -> list[list[str]]:
    assert state(answer) is StatementState.SUCCEEDED, answer
    assert answer.result is not None
    return answer.result.data_array or []


@pytest.mark.proof  # a start of Spark, for this and the next four
def test_a_statement_waits_for_the_warehouse_and_its_rows_are_a_delta_table(
    own: Workspace, calls: WorkspaceClient, warehouse: str
):
    asked = calls.statement_execution.execute_statement(CREATE.format("kept"), warehouse, **SCHEMA, wait_timeout="0s")
    assert state(asked) is StatementState.PENDING, "it has to start first"
    until = time.monotonic() + 120
    while state(asked := calls.statement_execution.get_statement(str(asked.statement_id))) in (
        StatementState.PENDING,
        StatementState.RUNNING,
    ):
        assert time.monotonic() < until
        time.sleep(0.2)
    assert state(asked) is StatementState.SUCCEEDED, asked

    insert = "INSERT INTO kept VALUES (:id, :name)"
    text = parameter("name", "o'Neill; DROP TABLE kept")
    rows(done(calls, warehouse, insert, parameter("id", "9007199254740993", "BIGINT"), text))
    rows(done(calls, warehouse, insert, parameter("id", "2", "BIGINT"), parameter("name", None)))

    answer = done(calls, warehouse, "SELECT id, name, id > 2 AS large FROM kept ORDER BY id")
    assert rows(answer) == [["2", None, "false"], ["9007199254740993", "o'Neill; DROP TABLE kept", "true"]]
    assert answer.manifest is not None
    assert answer.manifest.schema is not None
    assert [(c.name, c.type_name.value, c.position) for c in answer.manifest.schema.columns or [] if c.type_name] == [
        ("id", "LONG", 0), ("name", "STRING", 1), ("large", "BOOLEAN", 2),
    ]  # fmt: skip
    # What another library reads from the folder.
    read = deltalake.DeltaTable(own.warehouses.folder_of("main.statements.kept")).to_pyarrow_table().to_pylist()
    assert sorted(row["id"] for row in read) == [2, 9007199254740993]
    assert rows(done(calls, warehouse, "SELECT id FROM kept WHERE id < 0")) == []


@pytest.mark.proof
@pytest.mark.parametrize(
    ("text", "given", "said"),
    [
        ("SELEC 1", [], "PARSE_SYNTAX_ERROR"),
        ("SELECT * FROM nothing", [], "TABLE_OR_VIEW_NOT_FOUND"),
        ("SELECT :a", [], "UNBOUND_SQL_PARAMETER"),
        ("SELECT :a", [parameter("a", "one", "BIGINT")], "CAST_INVALID_INPUT"),
        ("SELECT :a", [parameter("a", "1", "BIGINT) FROM x --")], "UNSUPPORTED_DATATYPE"),
        ("SELECT :a", [parameter("a", "[1]", "ARRAY<INT>")], "UNSUPPORTED_DATATYPE"),
        ("INSERT INTO bare VALUES (NULL, 'x')", [], "DELTA_NOT_NULL_CONSTRAINT_VIOLATED"),
        ("DELETE FROM bare WHERE id = 1", [], "DELTA_CANNOT_MODIFY_APPEND_ONLY"),
    ],
)
def test_what_fails_says_why(
    calls: WorkspaceClient, warehouse: str, text: str, given: list[StatementParameterListItem], said: str
):
    if "bare" in text:
        done(calls, warehouse, CREATE.format("bare").replace("TABLE", "TABLE IF NOT EXISTS"))
        done(calls, warehouse, "INSERT INTO bare VALUES (1, 'a')")
    assert said in failure(done(calls, warehouse, text, *given))


@pytest.mark.proof
def test_of_conditional_inserts_at_once_one_is_in_the_table(calls: WorkspaceClient, warehouse: str):
    """Each reads the table that it writes: Delta lets one of them commit, or lets the others see its row."""
    create = CREATE.format("raced").replace("'true')", "'true', 'delta.isolationLevel' = 'Serializable')")
    assert rows(done(calls, warehouse, create)) == []
    insert = "INSERT INTO raced SELECT :id, :who WHERE (SELECT count(*) FROM raced WHERE id = :id) = 0"
    for round_ in range(3):
        with ThreadPoolExecutor(4) as pool:
            ends = [
                pool.submit(
                    done, calls, warehouse, insert, parameter("id", str(round_), "BIGINT"), parameter("who", str(who))
                )
                for who in range(4)
            ]
        lost = [failure(end.result()) for end in ends if state(end.result()) is StatementState.FAILED]
        assert all("DELTA_CONCURRENT" in text for text in lost), lost
        assert len(rows(done(calls, warehouse, f"SELECT name FROM raced WHERE id = {round_}"))) == 1


@pytest.mark.proof
def test_a_schema_that_is_not_there_or_not_for_the_caller_fails_the_statement(
    own: Workspace, calls: WorkspaceClient, warehouse: str
):
    answer = calls.statement_execution.execute_statement("SELECT 1", warehouse, catalog="main", schema="nowhere")
    assert "Schema 'main.nowhere' does not exist" in failure(answer)
    own.catalog.revoke("USE SCHEMA", "main.statements", "engineer@example.com")
    try:
        assert "USE SCHEMA on Schema 'main.statements'" in failure(done(calls, warehouse, "SELECT 1"))
    finally:
        own.catalog.grant("USE SCHEMA", "main.statements", "engineer@example.com")
    assert rows(done(calls, warehouse, "SELECT 1")) == [["1"]], "the control"


@pytest.mark.proof
def test_a_statement_that_is_not_waited_for_is_cancelled(calls: WorkspaceClient, warehouse: str):
    done(calls, warehouse, "SELECT 1")
    long = "SELECT count(*) FROM range(4000000000) a WHERE hash(a.id) = 7 AND hash(a.id + 1) = 8"
    answer = calls.statement_execution.execute_statement(
        long, warehouse, wait_timeout="5s", on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CANCEL
    )
    assert state(answer) in (StatementState.CANCELED, StatementState.SUCCEEDED)
    asked = calls.statement_execution.execute_statement(long, warehouse, wait_timeout="0s")
    calls.statement_execution.cancel_execution(str(asked.statement_id))
    assert state(calls.statement_execution.get_statement(str(asked.statement_id))) is StatementState.CANCELED


def test_what_the_api_refuses_starts_nothing(own: Workspace, calls: WorkspaceClient, warehouse: str):
    execute = calls.statement_execution.execute_statement
    with pytest.raises(NotFound, match="SQL warehouse 0123456789abcdef does not exist"):
        execute("SELECT 1", "0123456789abcdef")
    for wait in ("4s", "51s", "10", "1m"):
        with pytest.raises((BadRequest, InvalidParameterValue), match="wait_timeout"):
            execute("SELECT 1", warehouse, wait_timeout=wait)
    with pytest.raises((BadRequest, InvalidParameterValue), match="Duplicate parameter"):
        execute("SELECT :a", warehouse, parameters=[parameter("a", "1"), parameter("a", "2")])
    with pytest.raises(Exception, match="does not emulate"):
        execute("SELECT 1", warehouse, disposition=Disposition.EXTERNAL_LINKS)
    with pytest.raises(NotFound, match="Statement none does not exist"):
        calls.statement_execution.get_statement("none")
