"""Statements on a SQL warehouse, through the SQL Statement Execution API.

What belongs here: sending a statement, waiting for its end, and what its failure means. What does not: what is executed
(`registry/warehouse_ledger`), the identity (`login`).

A classic warehouse that has stopped takes minutes to start, a serverless one seconds: a statement is polled for as long
as that. A client that loses the answer does not know whether the statement was executed, and must be able to find out.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

from databricks.sdk.errors.base import DatabricksError

from mlops_assets.errors import LaunchError, StatementError

if TYPE_CHECKING:
    from databricks.sdk.service.sql import StatementExecutionAPI, StatementResponse

    from mlops_assets.databricks.login import Credentials

# The API waits for at most 50 s; HTTP has to wait longer than that.
_WAIT: Final = "50s"
_HTTP_TIMEOUT_S: Final = 70
_LONGEST_S: Final = 600.0
_POLL_S: Final = 1.0
_RETRY_S: Final = 30
_UNFINISHED: Final = ("PENDING", "RUNNING")


@dataclass(frozen=True)
class Statements:
    """A SQL warehouse of a workspace.

    Attributes:
        login: Returns the identity; called with the first statement.
        warehouse_id: The warehouse.
        longest: Seconds after which a statement is given up.
    """

    login: Callable[[], Credentials]
    warehouse_id: str
    longest: float = _LONGEST_S

    def run(
        self, statement: str, parameters: Mapping[str, tuple[str, str]], *, catalog: str, schema: str
    ) -> list[list[str | None]]:
        """Execute a statement and return its rows; see `lakehouse.warehouse.SqlWarehouse`."""
        # Ten thousand lines, which a code location need not load.
        from databricks.sdk.service.sql import ExecuteStatementRequestOnWaitTimeout, StatementParameterListItem

        given = [StatementParameterListItem(name, type=kind, value=value) for name, (kind, value) in parameters.items()]
        until = time.monotonic() + self.longest
        try:
            answer = self._api.execute_statement(
                statement,
                self.warehouse_id,
                catalog=catalog,
                schema=schema,
                parameters=given or None,
                wait_timeout=_WAIT,
                on_wait_timeout=ExecuteStatementRequestOnWaitTimeout.CONTINUE,
            )
            while _state(answer) in _UNFINISHED:
                if time.monotonic() > until:
                    self._api.cancel_execution(str(answer.statement_id))
                    raise self._failed(f"no end after {self.longest:.0f} s", transient=True)
                time.sleep(_POLL_S)
                answer = self._api.get_statement(str(answer.statement_id))
        except (DatabricksError, OSError, TimeoutError) as error:
            raise self._unreachable(error) from None
        except LaunchError as error:
            raise StatementError(error.what, where=error.where, fix=error.fix) from None
        return self._rows(answer)

    @cached_property
    def _api(self) -> StatementExecutionAPI:
        from databricks.sdk import WorkspaceClient

        config = self.login().config(http_timeout_seconds=_HTTP_TIMEOUT_S, retry_timeout_seconds=_RETRY_S)
        return WorkspaceClient(config=config).statement_execution

    def _rows(self, answer: StatementResponse) -> list[list[str | None]]:
        if _state(answer) != "SUCCEEDED":
            error = answer.status.error if answer.status is not None else None
            text = (error.message if error is not None else None) or f"it ended as {_state(answer)}"
            raise self._failed(text.splitlines()[0])
        if answer.manifest is not None and (answer.manifest.total_chunk_count or 0) > 1:
            raise self._failed("its result is larger than one answer")
        return [list(row) for row in (answer.result.data_array if answer.result is not None else None) or []]

    def _failed(self, what: str, *, transient: bool = False) -> StatementError:
        return StatementError(
            f"a statement failed: {what}",
            where=f"SQL warehouse {self.warehouse_id}",
            fix="look at the warehouse's query history; the identity needs CAN USE on the warehouse, and USE SCHEMA, "
            "SELECT, MODIFY and CREATE TABLE on the schema",
            transient=transient,
        )

    def _unreachable(self, error: Exception) -> StatementError:
        return StatementError(
            f"the warehouse can't be used: {str(error).splitlines()[0] if str(error) else type(error).__name__}",
            where=f"SQL warehouse {self.warehouse_id}",
            fix="check `warehouse_id` in the profile and that the identity may use it, then run again",
            transient=not isinstance(error, DatabricksError),
        )


def _state(answer: StatementResponse) -> str:
    return "" if answer.status is None or answer.status.state is None else answer.status.state.value
