"""What a catalog says when it refuses, in words that say fix.

What belongs here: Spark's and Unity Catalog's error conditions. What does not: when a table is asked for (`tables`,
`lakehouse`).

Spark raises its own refusals with a condition (Spark documentation, "Error Conditions"). Unity Catalog's come from
behind it, some as a plain Java exception: `...UnauthorizedAccessException: PERMISSION_DENIED: User does not have CREATE
TABLE on Schema 'main.s'` (ibis-project/ibis issue 9038); so their text is looked at, too.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlops_assets.errors import StorageError

if TYPE_CHECKING:
    from pyspark.errors import PySparkException

# The last two are what Spark without Unity Catalog says, which takes the unknown first level for a schema.
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
_NO_RIGHT: Final = re.compile(
    r"(PERMISSION_DENIED|INSUFFICIENT_PERMISSIONS|INSUFFICIENT_PRIVILEGES|UNAUTHORIZED_ACCESS)\b"
)
_DENIED: Final = re.compile(r"User does not have [^\n.]+? on \w+ [`'\w.]+|Insufficient privileges:[^\n]*")
_STACK: Final = "\n\tat "
# Delta documentation, "Concurrency control": what a commit that comes second fails with.
_CONFLICT: Final = re.compile(r"DELTA_CONCURRENT|DELTA_METADATA_CHANGED|DELTA_PROTOCOL_CHANGED|Concurrent\w+Exception")


def error_condition(error: PySparkException) -> str:
    """Return the name of what went wrong, such as `DELTA_CONCURRENT_APPEND`; empty if Spark gives it none.

    Spark 4 calls it a condition, Spark 3.5 (Databricks Runtime 16.4 LTS), which has no `getCondition`, an error class.
    """
    ask = error.getCondition if hasattr(error, "getCondition") else error.getErrorClass
    return ask() or ""


def spark_errors() -> tuple[type[Exception], ...]:
    """Return what a call of Spark raises: its own errors, and those of Java that it has no name for."""
    from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped] # it has no type information
    from pyspark.errors import PySparkException

    return PySparkException, Py4JJavaError


def is_conflict(error: Exception) -> bool:
    """Return whether a write failed because someone else has committed meanwhile."""
    return _CONFLICT.search(str(error)) is not None


@contextmanager
def readable(address: str, catalog: str, schema: str) -> Iterator[None]:
    """Turn a refusal of the catalog into the one error that users read; any other error passes.

    Args:
        address: The table's three-level name.
        catalog: Its catalog.
        schema: Its schema, without the catalog.

    Raises:
        StorageError: There is no such catalog or schema, the right to use it is missing, or the name is that of
            something else than a Delta table.
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
    found = error_condition(error) if isinstance(error, PySparkException) else ""
    said = f"{found} {text.partition(_STACK)[0]}"
    if _NO_CATALOG.search(said):
        return StorageError(
            f"there is no catalog {catalog} for this cluster",
            where=address,
            fix="correct MLOPS_DATABRICKS_CATALOG, or grant USE CATALOG on it to the identity that runs the cluster",
        )
    if _NO_SCHEMA.search(said):
        return StorageError(
            f"there is no schema {schema} in catalog {catalog}",
            where=address,
            fix=f"correct MLOPS_DATABRICKS_SCHEMA, or have it made: CREATE SCHEMA {catalog}.{schema}",
        )
    if _NO_RIGHT.search(said):
        denied = _DENIED.search(text)
        return StorageError(
            f"the catalog refuses: {denied.group().rstrip('.') if denied else text.splitlines()[0]}",
            where=address,
            fix=(
                f"grant USE CATALOG on {catalog}, and USE SCHEMA, CREATE TABLE, SELECT and MODIFY on "
                f"{catalog}.{schema}, to the identity that runs the cluster"
            ),
        )
    if found.split(".", maxsplit=1)[0] in _NOT_DELTA:
        return StorageError(
            "there is something else of this name, and no Delta table",
            where=address,
            fix="rename or drop it, or choose another schema (MLOPS_DATABRICKS_SCHEMA)",
        )
    return None
