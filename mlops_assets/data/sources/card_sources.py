"""Generated cards as sources: their transactions, and the reports of frauds.

What belongs here: one batch for each of the two. What does not: the simulation (`cards`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from mlops_assets.data.sources.base import SourceBatch, table_hash
from mlops_assets.data.sources.cards import simulate


@dataclass(frozen=True)
class _Cards:
    customers: int = 2_600
    terminals: int = 600
    days: int = 60
    seed: int = 7

    @property
    def _parameters(self) -> str:
        return f"seed={self.seed},customers={self.customers},terminals={self.terminals},days={self.days}"


class CardsSource(_Cards):
    """Yields the transactions of a simulation as one batch; the defaults make 150,000.

    Args:
        customers: See `simulate`, as for the others.
        terminals: Number of terminals.
        days: Whole days.
        seed: Seed.
    """

    def batches(self) -> Iterator[SourceBatch]:
        """Yield the transactions, none of which is known as a fraud.

        Raises:
            SettingsError: An argument is out of its range.
        """
        table = simulate(self.customers, self.terminals, self.days, self.seed).transactions
        yield SourceBatch(f"cards:{self._parameters}", table_hash(table), table)


class CardReportsSource(_Cards):
    """Yields the reports of the frauds of a simulation, one batch of labels; arguments as for `CardsSource`."""

    def batches(self) -> Iterator[SourceBatch]:
        """Yield all reports, also those that were made after the last transaction.

        Raises:
            SettingsError: An argument is out of its range.
        """
        table = simulate(self.customers, self.terminals, self.days, self.seed).labels
        yield SourceBatch(f"cards:reports:{self._parameters}", table_hash(table), table)
