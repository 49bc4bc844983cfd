"""Errors of Spark and of the catalog, translated into what happened and how to fix it.

What belongs here: Spark's and Unity Catalog's error conditions. What does not: the calls that raise them (`tables`,
`lakehouse`).

Spark's own errors carry a condition (Spark documentation, "Error Conditions"). Unity Catalog's errors pass through
Spark, some as a plain Java exception: `...UnauthorizedAccessException: PERMISSION_DENIED: User does not have CREATE
TABLE on Schema 'main.s'` (ibis-project/ibis issue 9038). So this module also matches the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlops_assets.errors import StorageError

if TYPE_CHECKING:
    from pyspark.errors import PySparkException

# The last two come from Spark without Unity Catalog, which takes the unknown first level for a schema.
_NO_CATALOG: Final = re.compile(
    r"CATALOG_NOT_FOUND|NO_SUCH_CATALOG_EXCEPTION|REQUIRES_SINGLE_PART_NAMESPACE|Couldn't find a catalog"
)
_NO_SCHEMA: Final = re.compile(r"SCHEMA_NOT_FOUND|SCHEMA_DOES_NOT_EXIST")
_NOT_DELTA: Final = (
    "DELTA_TABLE_ONLY_OPERATION",
    "DELTA_ONLY_OPERATION",
    "DELTA_NOT_A_DELTA_TABLE",
    "DELTA_MISSING_DELTA_TABLE",
    "EXPECT_TABLE_NOT_VIEW",
)
_NO_PERMISSION: Final = re.compile(
    r"(PERMISSION_DENIED|INSUFFICIENT_PERMISSIONS|INSUFFICIENT_PRIVILEGES|UNAUTHORIZED_ACCESS)\b"
)
_DENIED: Final = re.compile(r"User does not have [^\n.]+? on \w+ [`'\w.]+|Insufficient privileges:[^\n]*")
# The catalog throttles or restarts (Databricks documentation, "REST API errors"), or the storage behind it does (S3's
# SlowDown, Azure's ServerBusy); Spark's own retries are over by then.
_BUSY: Final = re.compile(
    r"\b(REQUEST_LIMIT_EXCEEDED|RESOURCE_EXHAUSTED|TEMPORARILY_UNAVAILABLE|SlowDown|ServerBusy)\b"
    r"|UnknownHostException|SocketTimeoutException|Connection reset"
)
# A version's log entry is there and its files are not.
FILES_GONE: Final = "FILE_NOT_EXIST"
_STACK: Final = "\n\tat "
# Delta documentation, "Concurrency control": the errors of the second of two conflicting commits.
_CONFLICT: Final = re.compile(r"DELTA_CONCURRENT|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|Concurrent\w+Exception")


def error_condition(error: PySparkException) -> str:
    """Return the error's condition, such as `DELTA_CONCURRENT_APPEND`; empty if it has none."""
    return error.getCondition() or ""


def spark_errors() -> tuple[type[Exception], ...]:
    """Return the exception types that a Spark call raises: its own, and Java's for errors it does not translate."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped] # it has no type information
    from pyspark.errors import PySparkException

    return PySparkException, Py4JJavaError


def brief(error: Exception) -> str:
    """Return the error's text in one line, without the stack of the JVM."""
    return " ".join(str(error).partition(_STACK)[0].split("JVM stacktrace")[0].split())[:300]


def is_conflict(error: Exception) -> bool:
    """Return whether a write failed because someone else committed in the meantime."""
    return _CONFLICT.search(str(error)) is not None


def is_busy(error: Exception) -> bool:
    """Return whether the catalog, or the storage behind it, is too busy to answer."""
    return _BUSY.search(str(error)) is not None


@contextmanager
def readable(address: str, catalog: str, schema: str) -> Iterator[None]:
    """Turn a catalog error into a `StorageError` with a fix; let any other error pass.

    Args:
        address: The table's three-level name.
        catalog: Its catalog.
        schema: Its schema, without the catalog.

    Raises:
        StorageError: The catalog or schema does not exist, a permission is missing, the name belongs to something that
            is not a Delta table, or catalog or storage are too busy to answer.
    """
    try:
        yield
    except spark_errors() as error:
        refused = _refusal(error, address, catalog, schema)
        if refused is None:
            raise
        raise refused from None


def _refusal(error: Exception, address: str, catalog: str, schema: str) -> StorageError | None:
    from pyspark.errors import PySparkException

    text = str(error)
    condition = error_condition(error) if isinstance(error, PySparkException) else ""
    message = f"{condition} {text.partition(_STACK)[0]}"
    if _NO_CATALOG.search(message):
        return StorageError(
            f"the cluster has no catalog {catalog}",
            where=address,
            fix="correct MLOPS_DATABRICKS_CATALOG, or grant USE CATALOG on it to the identity that runs the cluster",
        )
    if _NO_SCHEMA.search(message):
        return StorageError(
            f"there is no schema {schema} in catalog {catalog}",
            where=address,
            fix=f"correct MLOPS_DATABRICKS_SCHEMA, or create it: CREATE SCHEMA {catalog}.{schema}",
        )
    if _NO_PERMISSION.search(message):
        denied = _DENIED.search(text)
        return StorageError(
            f"the catalog denies access: {denied.group().rstrip('.') if denied else text.splitlines()[0]}",
            where=address,
            fix=(
                f"grant USE CATALOG on {catalog}, and USE SCHEMA, CREATE TABLE, SELECT and MODIFY on "
                f"{catalog}.{schema}, to the identity that runs the cluster"
            ),
        )
    if condition.split(".", maxsplit=1)[0] in _NOT_DELTA:
        return StorageError(
            "this name belongs to something that is not a Delta table",
            where=address,
            fix="rename or drop it, or choose another schema (MLOPS_DATABRICKS_SCHEMA)",
        )
    if busy := _BUSY.search(message):
        return StorageError(
            f"the catalog or its storage does not answer ({busy.group()})",
            where=address,
            fix="run again later; if it happens often, ask the workspace's administrators about its limits",
            transient=True,
        )
    return None
