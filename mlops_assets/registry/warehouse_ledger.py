"""The ledger of champions as a table of a catalog, written through a SQL warehouse; and which ledger a database has.

What belongs here: the ledger's SQL. What does not: entries and their chain (`ledger`), how a statement reaches a
warehouse (`databricks/statements`).

An entry is inserted on the condition that the newest entry of its model is the one that it hashes. The isolation level
of the table is Serializable, so of two inserts that read the same newest entry one conflicts, or finds another one.
Neither what an insert answers nor that it answers is relied on: the chain is read again, and says whose entry is there.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

from mlops_assets.errors import LedgerError, StatementError
from mlops_assets.registry.ledger import CHAMPION_LEDGER, FIELDS, DeltaLedger, Entry, overtaken, require_chain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.warehouse import SqlWarehouse
    from mlops_assets.registry.ledger import LedgerTable

_NAMES: Final = tuple(FIELDS)
_TYPES: Final = {name: "BIGINT" if kind is int else "STRING" for name, kind in FIELDS.items()}
_CREATE: Final = (
    f"CREATE TABLE IF NOT EXISTS {CHAMPION_LEDGER} ({', '.join(f'{n} {_TYPES[n]} NOT NULL' for n in _NAMES)}) "
    "USING DELTA TBLPROPERTIES ('delta.appendOnly' = 'true', 'delta.isolationLevel' = 'Serializable')"
)
_READ: Final = f"SELECT {', '.join(_NAMES)} FROM {CHAMPION_LEDGER} WHERE model = :model ORDER BY number"  # noqa: S608
_APPEND: Final = (
    f"INSERT INTO {CHAMPION_LEDGER} ({', '.join(_NAMES)}) SELECT {', '.join(f':{name}' for name in _NAMES)} "  # noqa: S608
    f"WHERE coalesce((SELECT max_by(digest, number) FROM {CHAMPION_LEDGER} WHERE model = :model), '') = :previous"
)
_NO_TABLE: Final = "TABLE_OR_VIEW_NOT_FOUND"
# Another commit came between: of an entry, or of the table itself.
_CONFLICTS: Final = ("DELTA_CONCURRENT", "DELTA_METADATA_CHANGED", "DELTA_PROTOCOL_CHANGED", "TABLE_OR_VIEW_ALREADY")


@dataclass(frozen=True)
class WarehouseLedger:
    """Entries in a table of a catalog.

    Attributes:
        warehouse: Executes the statements.
        catalog: Catalog of the table.
        schema: Its schema; the table is created with the first entry.
    """

    warehouse: SqlWarehouse
    catalog: str
    schema: str

    @property
    def where(self) -> str:
        """The table's name of three levels."""
        return f"{self.catalog}.{self.schema}.{CHAMPION_LEDGER}"

    def read(self, model: str) -> list[Entry]:
        """Return a model's entries in order.

        Raises:
            LedgerError: The table can't be read, or an entry was changed, left out or added by someone else.
        """
        try:
            rows = self._run(_READ, {"model": ("STRING", model)})
        except StatementError as error:
            if error.condition == _NO_TABLE:
                return []
            raise self._unreadable(error) from None
        try:
            entries = [_entry(dict(zip(_NAMES, row, strict=True))) for row in rows]
        except (TypeError, ValueError) as error:
            raise self._unreadable(error) from None
        require_chain(entries, where=self.where)
        return entries

    def append(self, entry: Entry) -> None:
        """Add an entry, if nobody else has since the newest one.

        Raises:
            LedgerError: Another process has added an entry, or the table can't be written.
        """
        values = {name: (_TYPES[name], str(value)) for name, value in asdict(entry).items()}
        failed = self._tried(_APPEND, values)
        if failed is not None and failed.condition == _NO_TABLE:
            # Two may create it at once, and one fails; whether it is there now, the next insert says.
            created = self._tried(_CREATE, {})
            failed = self._tried(_APPEND, values)
            failed = created if failed is not None and failed.condition == _NO_TABLE else failed
        entries = self.read(entry.model)
        if len(entries) >= entry.number and entries[entry.number - 1].digest == entry.digest:
            return
        if failed is not None and len(entries) < entry.number and not failed.condition.startswith(_CONFLICTS):
            raise self._unreadable(failed)
        raise overtaken(self.where)

    def _tried(self, statement: str, parameters: Mapping[str, tuple[str, str]]) -> StatementError | None:
        try:
            self._run(statement, parameters)
        except StatementError as error:
            return error
        return None

    def _run(self, statement: str, parameters: Mapping[str, tuple[str, str]]) -> list[list[str | None]]:
        return self.warehouse.run(statement, parameters, catalog=self.catalog, schema=self.schema)

    def _unreadable(self, error: Exception) -> LedgerError:
        what = error.what if isinstance(error, StatementError) else str(error)
        return LedgerError(
            f"the ledger of champions can't be read or written: {what}",
            where=self.where,
            fix=error.fix
            if isinstance(error, StatementError)
            else "RESTORE the table to a version before it was changed; nothing is promoted or rolled back until then",
            transient=isinstance(error, StatementError) and error.transient,
        )


def _entry(row: Mapping[str, str | None]) -> Entry:
    given = {name: int(str(value)) if FIELDS[name] is int else value for name, value in row.items()}
    return Entry(**given)  # type: ignore[arg-type] # a null makes another digest, and is noticed by it


def ledger_of(lakehouse: Lakehouse) -> LedgerTable | None:
    """Return the ledger of a database; None where its tables are a catalog's and no SQL warehouse is named."""
    if not lakehouse.catalog:
        return DeltaLedger(lakehouse.location(CHAMPION_LEDGER))
    if lakehouse.warehouse is None:
        return None
    return WarehouseLedger(lakehouse.warehouse, lakehouse.catalog, lakehouse.database)
