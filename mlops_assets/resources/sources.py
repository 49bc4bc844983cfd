"""Where transactions come from, as resources: one class per kind of source.

What belongs here: configuration of a source, editable in the launchpad, and all that depends on its kind. What does
not: reading (`data/sources`). The binding place picks one of `SOURCES` by the settings; assets see only
`TransactionSourceResource`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
from pydantic import Field

from mlops_assets.data.sources.arrivals import Arrivals, arrivals_of_files
from mlops_assets.errors import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import date

    from mlops_assets.data.sources.base import TransactionSource


class TransactionSourceResource(dg.ConfigurableResource[Any], ABC):
    """Something that yields batches of raw transactions."""

    @abstractmethod
    def open(self) -> TransactionSource:
        """Return the source; nothing is read yet."""

    def arrived_on(self, day: date) -> list[str]:
        """Return the files that were last written on a day (UTC), in the order of their arrival.

        Raises:
            SettingsError: A source of this kind has no files that arrive.
            SourceError: A place can't be listed, or its storage does not say when files were written.
        """
        raise SettingsError(
            f"{type(self).__name__} has no files that arrive",
            where=f"daily_arrivals {day}",
            fix="set MLOPS_SOURCE to a folder or glob; other sources are loaded whole by `load_data`",
        )


class SyntheticTransactions(TransactionSourceResource):
    """Generated transactions, shaped like the ULB credit card set."""

    rows: int = Field(default=150_000, description="Number of transactions.")
    days: float = Field(default=10.0, description="Days they span.")
    fraud_rate: float = Field(default=0.005, description="Share of frauds.")
    seed: int = Field(default=7, description="Seed of the generator.")

    def open(self) -> TransactionSource:
        """Return the generator."""
        from mlops_assets.data.sources.synthetic import SyntheticSource

        return SyntheticSource(rows=self.rows, days=self.days, fraud_rate=self.fraud_rate, seed=self.seed)


class FileTransactions(TransactionSourceResource):
    """CSV, CSV.gz or Parquet files."""

    location: str = Field(description="A file, a folder, a glob or a comma-separated list; local or any fsspec URL.")

    def open(self) -> TransactionSource:
        """Return the reader."""
        from mlops_assets.data.sources.files import FilesSource

        return FilesSource(self.location)

    @classmethod
    def of(cls, files: Iterable[str]) -> FileTransactions:
        """Return a source of exactly these files."""
        from mlops_assets.data.sources.locations import joined

        return cls(location=joined(files))

    def arrived_on(self, day: date) -> list[str]:
        """Return the files that were last written on a day (UTC), in the order of their arrival.

        Raises:
            SourceError: A place can't be listed, or its storage does not say when files were written.
        """
        from mlops_assets.data.sources.listing import arrived_on

        return arrived_on(self.location, day)


class LabelFiles(dg.ConfigurableResource[Any]):
    """CSV, CSV.gz or Parquet files with labels that come after their transactions."""

    location: str = Field(description="A file, a folder, a glob or a comma-separated list; local or any fsspec URL.")

    def open(self) -> TransactionSource:
        """Return the reader; a folder or glob without files is no error, since there may be no labels yet."""
        from mlops_assets.data.sources.files import FilesSource

        return FilesSource(self.location, may_be_empty=True)


class OpenMLTransactions(TransactionSourceResource):
    """A data set of openml.org, or of another server that speaks its API."""

    dataset: str = Field(default="CreditCardFraudDetection", description="Name or id of the data set.")
    version: int | None = Field(default=None, description="Version of a named data set; the newest active by default.")
    base_url: str = Field(default="https://www.openml.org", description="Server.")
    cache_dir: str = Field(description="Folder for downloaded files.")

    def open(self) -> TransactionSource:
        """Return the client."""
        from mlops_assets.data.sources.openml import OpenMLSource

        return OpenMLSource(self.dataset, version=self.version, base_url=self.base_url, cache_dir=Path(self.cache_dir))


class DeltaTransactions(TransactionSourceResource):
    """A Delta table that someone else writes."""

    location: str = Field(description="Folder or URL of the table.")
    after_version: int = Field(default=-1, ge=-1, description="Last version to skip; -1 starts with the first.")
    up_to_version: int | None = Field(default=None, description="Last version to read; the newest by default.")
    has_key: bool = Field(default=False, description="Whether the contract has a key, so that rows may come again.")

    def open(self) -> TransactionSource:
        """Return the reader."""
        from mlops_assets.data.sources.delta import DeltaSource

        return DeltaSource(
            self.location, after_version=self.after_version, up_to_version=self.up_to_version, has_key=self.has_key
        )


@dataclass(frozen=True)
class SourceKind:
    """A kind of source that the settings can name.

    Attributes:
        at: Makes the source at a place, given the home and whether the contract has a key.
        arrivals: How it shows that there is something new at a place.
    """

    at: Callable[[str, Path, bool], TransactionSourceResource]
    arrivals: Callable[[str], Arrivals]


def _open_ml(place: str, home: Path, _: bool) -> OpenMLTransactions:
    cache = str(home / "openml")
    return OpenMLTransactions(dataset=place, cache_dir=cache) if place else OpenMLTransactions(cache_dir=cache)


# By what `Settings.source_kind` calls them.
SOURCES: Mapping[str, SourceKind] = {
    "synthetic": SourceKind(lambda *_: SyntheticTransactions(), lambda _: Arrivals.NEVER),
    "files": SourceKind(lambda place, *_: FileTransactions(location=place), arrivals_of_files),
    "openml": SourceKind(_open_ml, lambda _: Arrivals.UNSEEN),
    "delta": SourceKind(
        lambda place, _, has_key: DeltaTransactions(location=place, has_key=has_key), lambda _: Arrivals.VERSIONS
    ),
}
