"""What can execute SQL on a catalog's tables without a Spark session of this process.

What belongs here: what others may expect of it. What does not: how statements get there (`databricks/statements`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol


class SqlWarehouse(Protocol):
    """A SQL warehouse."""

    def run(
        self, statement: str, parameters: Mapping[str, tuple[str, str]], *, catalog: str, schema: str
    ) -> list[list[str | None]]:
        """Execute a statement and return its rows, each value as text.

        Args:
            statement: With named parameters, `:name`.
            parameters: SQL type and value of each.
            catalog: Catalog of the tables that it names.
            schema: Their schema.

        Raises:
            StatementError: It failed, or its end is not known.
        """
        ...
