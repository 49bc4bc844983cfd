"""Erasing an entity (a customer, a card): its rows leave every table, old versions included.

What belongs here: which rows of which table are an entity's, and the order of erasing them. What does not: how a
table's history is ended (`erased_history`), looking into files (`value_search`), the log of predictions
(`erased_predictions`), printing (`cli`).

A deletion alone erases nothing: earlier versions keep the rows, and models are pinned to those. So each table that ever
held the entity gets a version without it, and everything before is deleted, in spite of pins. Labels go first and the
raw table last: it says which keys are the entity's. To erase again is harmless, and finishes what was interrupted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.data.columns import BATCH_ID, ORIGINAL, ROW_NUMBER, SOURCE
from mlops_assets.errors import ContractError, StorageError
from mlops_assets.lakehouse.erased_history import end_history
from mlops_assets.lakehouse.names import quoted
from mlops_assets.lakehouse.score_table import SCORES
from mlops_assets.lakehouse.split_sets import SET_TABLES, SETS_LOCK
from mlops_assets.lakehouse.transaction_tables import KNOWN, LABELS, QUARANTINED, RAW, REPLACED
from mlops_assets.lakehouse.value_search import files_holding
from mlops_assets.lineage import RECORDS

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.lakehouse.transactions import TransactionStore

# The raw table last: what the others are searched for follows from it.
_ORDER: Final = (LABELS, QUARANTINED, REPLACED, KNOWN, *SET_TABLES.values(), SCORES, RAW)


@dataclass(frozen=True)
class Held:
    """What the tables hold of entities.

    Attributes:
        rows: Rows of the newest version by table; tables without any are left out.
        files: Files that hold values, by table: data of any version, log entries, checkpoints.
        sources: Inputs that the rows came from, as they were named.
    """

    rows: Mapping[str, int] = field(default_factory=dict)
    files: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    sources: Sequence[str] = ()

    @property
    def nothing(self) -> bool:
        """Whether no table holds anything."""
        return not self.rows and not self.files


@dataclass(frozen=True)
class Eraser:
    """Finds and erases entities in the tables of one database.

    Attributes:
        store: The tables, and the contract that names the entity.
        entities: The entities, as text.
    """

    store: TransactionStore
    entities: Sequence[str]

    def __post_init__(self) -> None:
        """Refuse what can't be erased here.

        Raises:
            ContractError: The contract has no entity, or a value is not of its type.
            StorageError: The tables are in a catalog.
        """
        contract, lakehouse = self._contract, self._lakehouse
        if contract.entity is None:
            raise ContractError("the contract names no entity", where=contract.versioned_name, fix="set `entity`")
        kind = contract.column(contract.entity).type
        wrong = [value for value in self.entities if kind == "long" and not value.lstrip("-").isdecimal()]
        if wrong or not all(self.entities):
            raise ContractError(
                f"{', '.join(wrong) or 'an empty value'} is no {contract.entity}, which is a {kind}",
                where=contract.versioned_name,
                fix="give the entity as the data has it",
            )
        if lakehouse.catalog:
            raise StorageError(
                "tables of a catalog are not erased from here: the catalog keeps their files and logs",
                where=lakehouse.location(RAW),
                fix="delete the rows there from " + ", ".join(_ORDER) + "; then REORG ... APPLY (PURGE), and VACUUM",
            )

    def find(self) -> Held:
        """Return what the tables hold; changes nothing.

        Raises:
            StorageError: A table can't be read.
        """
        keys = self._keys()
        rows, files = self._left(keys)
        sources: set[str] = set()
        for name in (RAW, QUARANTINED, REPLACED, KNOWN):
            if name in rows and (found := self._rows(name, keys)) is not None:
                sources |= {row[SOURCE] for row in found.select(SOURCE).distinct().collect()}
        return Held(rows, files, sorted(sources))

    def versions_used(self, versions: Collection[int]) -> tuple[list[int], list[int]]:
        """Return which versions of the raw table hold the entities, and which can't be read any more."""
        held, gone = [], []
        for version in sorted(set(versions)):
            try:
                table = self._lakehouse.read(RAW, version)
            except StorageError:
                gone.append(version)
                continue
            if not table.where(self._is_theirs(table)).isEmpty():
                held.append(version)
        return held, gone

    def erase(self, wait_seconds: float | None = None) -> Held:
        """Erase the entities, and return what is left of them: nothing, if all went well.

        Args:
            wait_seconds: How long to wait for a running load or split to finish.

        Raises:
            StorageError: A lock was not free in time, or a table can't be read or written.
            StaleBaseError: Someone else is writing.
        """
        lakehouse = self._lakehouse
        with ExitStack() as held:
            for lock in (RAW, SETS_LOCK, LABELS, SCORES):
                held.enter_context(lakehouse.exclusive(lock, wait_seconds))
            with lakehouse.staging(RAW) as folder:
                self.store.recover(folder)
            keys = self._keys()
            # Without some of their rows they are no longer the sets that a split has cut.
            in_sets = [found for name in SET_TABLES.values() if (found := self._rows(name)) is not None]
            cut = any(not found.isEmpty() for found in in_sets)
            for name in _ORDER:
                self._erase_from(name, keys, forgets=cut and name in SET_TABLES.values())
            rows, files = self._left(keys)
            staged = files_holding(Path(lakehouse.location(RAW)).parent / "_staging", self._wanted(RAW, keys))
        return Held(rows, files | ({"_staging": staged} if staged else {}))

    def _left(self, keys: Collection[Any]) -> tuple[dict[str, int], dict[str, list[Path]]]:
        """Return the rows of the newest versions and the files that hold values, by table."""
        rows = {name: found.count() for name in _ORDER if (found := self._rows(name, keys)) is not None}
        folders = {name: Path(self._lakehouse.location(name)) for name in _ORDER}
        files = {name: files_holding(folder, self._wanted(name, keys)) for name, folder in folders.items()}
        return {name: n for name, n in rows.items() if n}, {name: found for name, found in files.items() if found}

    @property
    def _lakehouse(self) -> Lakehouse:
        return self.store.lakehouse

    @property
    def _contract(self) -> Contract:
        return self.store.contract

    def _erase_from(self, name: str, keys: Collection[Any], *, forgets: bool) -> None:
        """Give a table a version without the entities, and make it the oldest one.

        Args:
            name: The table.
            keys: Keys of their transactions.
            forgets: Whether what the table's commit says no longer holds.
        """
        lakehouse = self._lakehouse
        base = lakehouse.current(name)
        if base is None:
            return
        metadata: dict[str, Any] = {} if forgets else dict(base.metadata)
        if RECORDS in metadata and name == RAW:
            metadata[RECORDS] = []  # the manifest has them
        rows = self._rows(name, keys)
        if rows is not None and not rows.isEmpty():
            place = [BATCH_ID, ROW_NUMBER]
            # Computed before the merge: it would read the table that it changes.
            found = rows.select(*place).distinct().collect()
            theirs = lakehouse.session.createDataFrame(found, rows.select(*place).schema)
            same = " AND ".join(f"old.{quoted(column)} <=> new.{quoted(column)}" for column in place)
            base = lakehouse.remove(name, theirs, on=same, base=base, metadata=metadata)
        if forgets or files_holding(Path(lakehouse.location(name)), self._wanted(name, keys)):
            end_history(lakehouse, base, metadata)

    def _rows(self, name: str, keys: Collection[Any] = ()) -> DataFrame | None:
        """Return a table's rows of the entities; None if there is no such table."""
        newest = self._lakehouse.current(name)
        if newest is None:
            return None
        table = self._lakehouse.read(name, newest.version)
        return table.where(self._is_theirs(table, keys))

    def _is_theirs(self, table: DataFrame, keys: Collection[Any] = ()) -> Column:
        """Return the condition that a row is about the entities, or about one of their transactions.

        Args:
            table: The table.
            keys: Keys of their transactions, for tables that know no entity: labels, and what was set aside.
        """
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        contract = self._contract
        entity, key = str(contract.entity), contract.key
        if entity in table.columns:
            kind = table.schema[entity].dataType
            theirs = [F.col(entity).isin([F.lit(value).cast(kind) for value in self.entities])]
            if key is not None and key in table.columns:  # of scores of a table that names no entity
                theirs += [F.col(entity).isNull() & F.col(key).isin(list(keys))]
        else:
            theirs = [F.col(key).isin(list(keys))] if key is not None and key in table.columns else []
        if ORIGINAL in table.columns:
            given = F.trim(F.col(ORIGINAL)[entity])
            typed = contract.column(entity).type
            theirs += [given.isin(list(self.entities))]
            theirs += [given.try_cast(typed).isin([F.lit(value).cast(typed) for value in self.entities])]
            if key is not None:
                theirs += [F.trim(F.col(ORIGINAL)[key]).isin([_as_text(value) for value in keys])]
        found = F.lit(False)
        for condition in theirs:
            found |= F.coalesce(condition, F.lit(False))
        return found

    def _wanted(self, name: str, keys: Collection[Any]) -> dict[str, set[str]]:
        """Return what to look for in the files of a table; keys only where rows may know no entity."""
        wanted = {str(self._contract.entity): set(self.entities)}
        if name in (LABELS, QUARANTINED, SCORES) and self._contract.key is not None:
            wanted[self._contract.key] = {_as_text(key) for key in keys}
        return wanted

    def _keys(self) -> set[Any]:
        """Return the keys of the entities' transactions, without those that another entity's rows have by now."""
        from pyspark.sql import functions as F  # noqa: N812 - the name Spark's own documentation uses

        contract = self._contract
        key = contract.key
        if key is None:
            return set()
        keys: set[Any] = set()
        for name in (RAW, REPLACED, KNOWN):
            if (rows := self._rows(name)) is not None:
                keys |= {row[0] for row in rows.select(key).distinct().collect()}
        if (aside := self._rows(QUARANTINED)) is not None:
            given = F.trim(F.col(ORIGINAL)[key]).try_cast(contract.column(key).type)
            keys |= {row[0] for row in aside.select(given).distinct().collect() if row[0] is not None}
        newest = self._lakehouse.current(RAW)
        if newest is not None and keys:
            table = self._lakehouse.read(RAW, newest.version)
            others = table.where(F.col(key).isin(list(keys)) & ~self._is_theirs(table))
            keys -= {row[0] for row in others.select(key).collect()}
        return keys


def _as_text(value: Any) -> str:
    return str(value).removesuffix(".0")
