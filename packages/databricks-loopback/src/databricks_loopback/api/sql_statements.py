"""SQL Statement Execution API 2.0: execute, poll, cancel; and a look at a warehouse.

What belongs here: the calls (reference: "Statement Execution", "SQL Warehouses"). What does not: executing
(`sql_warehouse`), results by external links, in chunks, or as Arrow.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from databricks.sdk.service.sql import StatementExecutionAPI

from databricks_loopback.routing import Route
from databricks_loopback.schema import check_call
from databricks_loopback.sql_warehouse import Statement, Warehouses
from databricks_loopback.wire import Reply, Request, invalid, not_emulated

_BASE = "/api/2.0/sql/statements"
_WAIT = re.compile(r"(\d+)s")
_SHORTEST_S, _LONGEST_S = 5, 50
# The SDK's names of Spark's types, where they differ.
_TYPE_NAMES = {"BIGINT": "LONG", "SMALLINT": "SHORT", "TINYINT": "BYTE", "VOID": "NULL", "TIMESTAMP_NTZ": "TIMESTAMP"}


class SqlStatementsApi:
    """The endpoints of statements.

    Args:
        warehouses: The warehouses.
    """

    def __init__(self, warehouses: Warehouses) -> None:
        self._warehouses = warehouses

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        return [
            Route("POST", f"{_BASE}/", self._execute),  # the SDK's address has the slash, the reference's has none
            Route("POST", _BASE, self._execute),
            Route("GET", f"{_BASE}/{{statement_id}}", self._get),
            Route("POST", f"{_BASE}/{{statement_id}}/cancel", self._cancel),
            Route("GET", "/api/2.0/sql/warehouses/{warehouse_id}", self._warehouse),
        ]

    def _execute(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        check_call(body, StatementExecutionAPI.execute_statement)
        if (body.get("format") or "JSON_ARRAY", body.get("disposition") or "INLINE") != ("JSON_ARRAY", "INLINE"):
            raise not_emulated("results that are not JSON arrays in the answer")
        if body.get("row_limit") is not None or body.get("byte_limit") is not None:
            raise not_emulated("limits of a result")
        wait = _seconds(body.get("wait_timeout") or "10s")
        parameters = body.get("parameters") or []
        names = [item["name"] for item in parameters]
        if len(set(names)) < len(names):
            raise invalid("Duplicate parameter names.")
        statement = self._warehouses.execute(
            body["warehouse_id"],
            body["statement"],
            parameters,
            user=request.user,
            catalog=body.get("catalog") or "",
            schema=body.get("schema") or "",
        )
        if wait and not statement.finished.wait(wait) and body.get("on_wait_timeout") == "CANCEL":
            statement.end("CANCELED")
        return Reply.of(_document(statement))

    def _get(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        return Reply.of(_document(self._warehouses.statement(parts["statement_id"])))

    def _cancel(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        self._warehouses.statement(parts["statement_id"]).end("CANCELED")
        return Reply.of({})

    def _warehouse(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        at = parts["warehouse_id"]
        return Reply.of({"id": at, "name": f"warehouse {at}", "state": self._warehouses.state(at)})


def _seconds(text: str) -> int:
    found = _WAIT.fullmatch(text)
    if found is None or not (int(found[1]) == 0 or _SHORTEST_S <= int(found[1]) <= _LONGEST_S):
        raise invalid(f"wait_timeout has to be 0s, or between {_SHORTEST_S}s and {_LONGEST_S}s, not {text}")
    return int(found[1])


def _document(statement: Statement) -> dict[str, Any]:
    state = statement.state
    status: dict[str, Any] = {"state": state}
    if state == "FAILED" and statement.error is not None:
        status["error"] = {"error_code": statement.error[0], "message": statement.error[1]}
    document: dict[str, Any] = {"statement_id": statement.id, "status": status}
    if state == "SUCCEEDED":
        count = len(statement.rows)
        columns = [
            {"name": name, "position": at, "type_text": kind.upper(), "type_name": _type_name(kind)}
            for at, (name, kind) in enumerate(statement.columns)
        ]
        chunks = [{"chunk_index": 0, "row_offset": 0, "row_count": count}] if count else []
        document["manifest"] = {
            "format": "JSON_ARRAY",
            "schema": {"column_count": len(columns), "columns": columns},
            "total_chunk_count": len(chunks),
            "total_row_count": count,
            "truncated": False,
            **({"chunks": chunks} if chunks else {}),
        }
        document["result"] = {**chunks[0], "data_array": [list(row) for row in statement.rows]} if count else {}
    return document


def _type_name(kind: str) -> str:
    name = re.split(r"[(<]", kind)[0].upper()
    return _TYPE_NAMES.get(name, name)
