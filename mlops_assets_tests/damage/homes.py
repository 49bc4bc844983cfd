"""A small home that is damaged, and what it holds, compared by content with an undamaged twin.

What belongs here: loads that leave every kind of file, the ways to damage a file, the content of all tables. What does
not: what must follow from a damage (`test_tables`, `test_random`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from mlops_assets.data.columns import BATCH_ID, ROW_NUMBER
from mlops_assets.diagnostics.consistency import verify_tables
from mlops_assets.errors import PlatformError
from mlops_assets.lakehouse.damage import damage_of
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.transaction_tables import KNOWN, MANIFEST, QUARANTINED, RAW, REPLACED
from mlops_assets_tests.lakehouse.test_reverting import Database, Row

TABLES: Final = (RAW, QUARANTINED, MANIFEST, REPLACED, KNOWN)
CONTENT: Final[dict[str, list[Row]]] = {
    "a": [(1, 1.0, 10.0, 1), (2, 1.0, 20.0, 0), (9, 1.0, -1.0, 0), (8, 1.0, 80.0, 0)],
    "b": [(1, 2.0, 11.0, 1), (3, 1.0, 30.0, 0), (2, 0.0, 0.0, 1), (9, 2.0, -1.0, 1)],
    "c": [(3, 2.0, 31.0, 0), (4, 1.0, 40.0, 1), (1, 0.0, 0.0, 1)],
}
NEXT: Final[list[Row]] = [(4, 2.0, 41.0, 1), (5, 1.0, 50.0, 0), (2, 0.5, 0.0, 0), (7, 1.0, -7.0, 0)]

Damage = Callable[[Path, Path], None]


def filled(lakehouse: Lakehouse) -> Lakehouse:
    """Load three files; after the second, upkeep gives each table a checkpoint."""
    database = Database(lakehouse)
    for name, rows in CONTENT.items():
        if name == "c":
            for table in TABLES:
                # Delta writes a checkpoint with the commit that wants one after every commit.
                for interval in (1, 10):
                    change = f"ALTER TABLE {{table}} SET TBLPROPERTIES ('delta.checkpointInterval' = '{interval}')"
                    lakehouse.sql(change, table).collect()
        database.load(name, *rows)
    return lakehouse


def content(database: Database) -> dict[str, list[tuple[object, ...]]]:
    """Return the rows of all tables as Spark reads them, without their times of arrival."""
    found = {}
    for name in TABLES:
        newest = database.lakehouse.current(name)
        assert newest is not None
        rows = database.lakehouse.read(name, newest.version)
        if name == MANIFEST:
            columns = ["batch_id", "kind", "source", "rows", "accepted", "quarantined", "already_known"]
        elif name == QUARANTINED:
            columns = [BATCH_ID, ROW_NUMBER, "CAST(reasons AS STRING)", "CAST(original AS STRING)"]
        else:
            columns = ["id", "at", "amount", "fraud", BATCH_ID, ROW_NUMBER]
        found[name] = sorted(tuple(row) for row in rows.selectExpr(*columns).distinct().collect())
    return found


def outcome(database: Database, use: Callable[[Database], object]) -> tuple[object, str, Exception | None]:
    """Use a home that may be damaged.

    Returns:
        What came of it; what verification says beforehand, empty if all is well; the error that it ended in.
    """
    found = verify_tables("m", database.lakehouse, list)
    said = "; ".join(str(finding) for finding in found if finding.level == "error")
    try:
        return use(database), said, None
    except AssertionError:
        raise
    except Exception as error:  # noqa: BLE001 - whatever a library raises must be known as damage
        return None, said, error


def is_clear(error: Exception) -> bool:
    """Return whether a run would show this as one error that names the file and the fix."""
    return isinstance(error, PlatformError) or damage_of(error) is not None


def delete(path: Path, other: Path) -> None:
    """Remove a file."""
    del other
    path.unlink()


def truncate(path: Path, other: Path) -> None:
    """Cut a file in half."""
    del other
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path: Path, other: Path) -> None:
    """Change one bit."""
    del other
    flip_at(path, path.stat().st_size // 2)


def flip_at(path: Path, at: int, bit: int = 4) -> None:
    """Change a bit of a file that has bytes."""
    changed = bytearray(path.read_bytes())
    if changed:
        changed[at % len(changed)] ^= 1 << bit
        path.write_bytes(changed)


def exchange(path: Path, other: Path) -> None:
    """Put another file's content in a file's place: an older file of the table, or one of another table."""
    path.write_bytes(other.read_bytes())


def files(database: Database, table: str, pattern: str) -> list[Path]:
    """Return files of a table, the oldest entries of the log first."""
    return sorted(Path(database.lakehouse.location(table)).glob(pattern))


def needed(database: Database, table: str) -> Iterator[Path]:
    """Yield the data files of the newest version of a table."""
    newest = database.lakehouse.require(table, made_by="test")
    for name in database.lakehouse.read(table, newest.version).inputFiles():
        yield Path(database.lakehouse.location(table)) / Path(name).name
