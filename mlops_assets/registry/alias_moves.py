"""Moving the alias `champion`, with an entry in the ledger of each move; and the way back.

What belongs here: the order of table, alias and head; what is made of a kill in between or of another client's move;
rollback. What does not: the table (`ledger`), the gate.

The registry says who is champion, and the ledger follows. A move is written down first, then the alias is moved, then
the registry notes the newest entry. If the process ends after the first step, the next one finds an entry that the
registry does not know and an alias that has not moved, and writes that it was not carried out: an entry alone, which
anyone who can write to the table could add, never makes a champion. Any other alias than the last entry's was moved by
another client. All of this is done under the lock of registrations (`REGISTRATION_LOCK`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from mlflow.exceptions import MlflowException

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import CHAMPION_SINCE_TAG, LEDGER_HEAD_TAG, ROLLED_BACK_TAG
from mlops_assets.registry.golden import require_golden
from mlops_assets.registry.ledger import NOBODY, Entry, Event, carried_out, following, head_of, require_head
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, all_versions, by_alias
from mlops_assets.registry.warehouse_ledger import ledger_of
from mlops_assets.tracking.error_codes import is_missing
from mlops_assets.tracking.provenance import git_revision, this_actor

if TYPE_CHECKING:
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.registry.ledger import LedgerTable
    from mlops_assets.tracking.store import Store

REGISTRATION_LOCK: Final = "registered_model"


@dataclass(frozen=True)
class Move:
    """Why the alias is moved.

    Attributes:
        event: What happens.
        reason: One line.
        verdict: The gate's verdict as JSON, if there is one.
        dagster_run: Id of the run, if there is one.
    """

    event: Event
    reason: str
    verdict: str = ""
    dagster_run: str = ""


@dataclass(frozen=True)
class ChampionLedger:
    """The alias `champion` of a registered model, and the ledger of its moves.

    Attributes:
        store: The registry.
        name: Name of the registered model.
        table: The ledger; None where there is none, and the alias is moved alone.
    """

    store: Store
    name: str
    table: LedgerTable | None

    @classmethod
    def of(cls, store: Store, name: str, lakehouse: Lakehouse) -> ChampionLedger:
        """Return that of a registered model, whose ledger lies beside the tables of a database."""
        return cls(store, name, ledger_of(lakehouse))

    def entries(self) -> list[Entry]:
        """Return all entries, as they are.

        Raises:
            LedgerError: The ledger is not what was written.
            TrackingError: The registry can't be reached.
        """
        return self._read()[0]

    def require_registry(self) -> list[Entry]:
        """Return the entries that moved the alias, if the registry has the champion of the last one.

        An older copy of the registry, or an empty one in its place, does not know which tables models need.

        Raises:
            LedgerError: The ledger is not what was written, or knows of entries that the registry does not.
            TrackingError: The registry can't be reached, or does not have the champion.
        """
        entries = carried_out(self.entries())
        champion = entries[-1].to_version if entries else NOBODY
        if champion == NOBODY:
            return entries
        with self.store.answering():
            there = {version.number for version in all_versions(self.store, self.name)}
        if champion not in there:
            raise TrackingError(
                f"the ledger says that version {champion} is champion, and the registry does not have it",
                where=self.name,
                fix="restore the MLflow store from a backup; or make another version champion: `mlops rollback --to N`",
            )
        return entries

    def settle(self, why: Move | None = None) -> list[Entry]:
        """Make the ledger say what the registry says, and return its entries.

        Args:
            why: Why the alias may differ; by default another client moved it.

        Raises:
            LedgerError: The ledger is not what was written.
            TrackingError: The registry can't be reached.
        """
        entries, confirmed = self._read()
        if self.table is None:
            return entries
        champion = self._champion()
        last = entries[-1] if entries else None
        known = NOBODY if last is None else last.to_version
        if champion != known:
            if last is not None and not confirmed and champion == last.from_version:
                what = Move("not carried out", f"the process of entry {last.number} ended before it moved the alias")
            else:
                what = why or Move("moved outside", "found as moved by another client")
                if last is not None and not confirmed:
                    doubt = f"whether entry {last.number} was carried out before is not known"
                    what = replace(what, reason=f"{what.reason}; {doubt}")
            entries = self._append(entries, known, champion, what)
        elif confirmed or last is None:
            return entries
        elif champion != NOBODY:  # the process may have ended between the move and the mark
            with self.store.answering():
                self._mark_champion(champion)
        self._confirm(entries[-1])
        return entries

    def move(self, version: int, why: Move) -> None:
        """Make a version champion, or nobody; nothing happens if it is champion already.

        Args:
            version: The version, or NOBODY.
            why: What the ledger says of it.

        Raises:
            LedgerError: The ledger is not what was written, or can't be written.
            TrackingError: The registry can't be reached.
        """
        entries = self.settle()
        champion = self._champion()
        if champion == version:
            return
        entries = self._append(entries, champion, version, why)
        with self.store.answering():
            if version == NOBODY:
                self.store.client.delete_registered_model_alias(self.name, CHAMPION)
            else:
                self.store.client.set_registered_model_alias(self.name, CHAMPION, str(version))
                self._mark_champion(version)
        if entries:
            self._confirm(entries[-1])

    def reconcile(self, *, moves_back: bool) -> str:
        """Write down what other clients have done; return a line about it, empty if there was nothing.

        Args:
            moves_back: Whether to make the champion that they replaced champion again.

        Raises:
            LedgerError: The ledger is not what was written.
            TrackingError: The registry can't be reached.
        """
        before = len(self.entries())
        new = self.settle()[before:]
        if not new:
            return ""
        (entry,) = new
        line = f"{self.name}: {entry.event}, from version {entry.from_version} to {entry.to_version}"
        # A first entry is what was there before the ledger began.
        if not moves_back or entry.event != "moved outside" or entry.number == 1:
            return line
        self.move(entry.from_version, Move("moved back", f"entry {entry.number} was not ours"))
        return f"{line}; moved back"

    def rollback(self, to: int | None, why: Move) -> tuple[int, int]:
        """Make an older version champion again; return the version that was champion, and the one that is.

        The older one must be what was registered, and must score its golden rows as it did then. The gate does not
        promote the newer one again (`ROLLED_BACK_TAG`).

        Args:
            to: The version; None: the champion before the present one.
            why: What the ledger says of it.

        Raises:
            TrackingError: There is no such version, it is broken, or there is no champion to go back from.
            LedgerError: The ledger is not what was written.
        """
        entries = self.settle()
        champion = self._champion()
        target = self._before(entries, champion) if to is None else to
        if target == champion:
            raise self._refused(f"version {target} is champion already")
        model = load_verified(self.store, self.name, target)
        require_golden(self.store, model)
        # First the mark: if the process ends here, the champion stays, and a new one is what the gate makes of it.
        with self.store.answering():
            if champion != NOBODY:
                noted = f"{datetime.now(UTC).isoformat(timespec='seconds')}: {why.reason}"
                self.store.client.set_model_version_tag(self.name, str(champion), ROLLED_BACK_TAG, noted)
            if ROLLED_BACK_TAG in model.version.tags:
                self.store.client.delete_model_version_tag(self.name, str(target), ROLLED_BACK_TAG)
        self.move(target, why)
        return champion, target

    def _read(self) -> tuple[list[Entry], bool]:
        """Return the entries, and whether the registry knows the newest one."""
        if self.table is None:
            return [], True
        entries = self.table.read(self.name)
        return entries, require_head(entries, self._head(), where=f"ledger of {self.name}")

    def _before(self, entries: list[Entry], champion: int) -> int:
        """Return the champion before the present one."""
        if champion == NOBODY:
            raise self._refused("there is no champion to go back from; name a version")
        for entry in reversed(carried_out(entries)):
            if entry.to_version == champion and entry.from_version not in (NOBODY, champion):
                return entry.from_version
        raise self._refused("the ledger knows no champion before the present one; name a version")

    def _append(self, entries: list[Entry], before: int, after: int, why: Move) -> list[Entry]:
        if self.table is None:
            return []
        entry = Entry(
            number=0,
            at="",
            model=self.name,
            from_version=before,
            to_version=after,
            event=why.event,
            reason=why.reason,
            verdict=why.verdict,
            dagster_run=why.dagster_run,
            actor=this_actor(),
            code=git_revision(),
        )
        written = following(entries, entry)
        self.table.append(written)
        return [*entries, written]

    def _mark_champion(self, version: int) -> None:
        """Have a version say since when it is champion; one that was champion before keeps its first time."""
        made = self.store.client.get_model_version(self.name, str(version))
        if CHAMPION_SINCE_TAG not in made.tags:
            now = datetime.now(UTC).isoformat(timespec="seconds")
            self.store.client.set_model_version_tag(self.name, str(version), CHAMPION_SINCE_TAG, now)

    def _confirm(self, entry: Entry) -> None:
        with self.store.answering():
            self.store.client.set_registered_model_tag(self.name, LEDGER_HEAD_TAG, head_of(entry))

    def _head(self) -> str:
        with self.store.answering():
            try:
                return str(self.store.client.get_registered_model(self.name).tags.get(LEDGER_HEAD_TAG, ""))
            except MlflowException as error:
                if is_missing(error):
                    return ""
                raise

    def _champion(self) -> int:
        with self.store.answering():
            version = by_alias(self.store, self.name, CHAMPION)
        return NOBODY if version is None else version.number

    def _refused(self, what: str) -> TrackingError:
        return TrackingError(what, where=self.name, fix="`mlops champion` shows the versions that were champion")
