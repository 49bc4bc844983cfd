"""Where transactions come from, as a part of an asset's config: one class per kind of source.

What belongs here: what a person may choose for one run, editable in the launchpad, and all that depends on a source's
kind. What does not: labels that come later (`label_sources`), reading (`data/sources`).

A model's spec names its source, and the assets' closures hold it. The config of a run starts from it and may narrow it
(to the files that have arrived, to versions of a table); it can't lead elsewhere, so that the rows of one model never
get into the tables of another.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Self

import dagster as dg
from pydantic import Field

from mlops_assets.data.sources.arrivals import Arrivals, arrivals_of_files
from mlops_assets.data.sources.locations import joined, shown
from mlops_assets.deployment import Deployment
from mlops_assets.errors import SettingsError
from mlops_assets.spec import FraudModelSpec

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from mlops_assets.data.sources.base import TransactionSource
    from mlops_assets.lakehouse.load_report import LoadReport
    from mlops_assets.lakehouse.transactions import TransactionStore

LOCATION = "A file, a folder, a glob or a comma-separated list; local or any fsspec URL."


class InputConfig(dg.Config, ABC):
    """Something that yields batches of rows."""

    @abstractmethod
    def open(self) -> "TransactionSource":
        """Return the source; nothing is read yet."""

    @property
    @abstractmethod
    def arrivals(self) -> Arrivals:
        """How it shows that there is something new."""

    def require_within(self, place: Self) -> None:
        """Check that this is a part of a model's own input.

        Args:
            place: The input of the model's spec.

        Raises:
            SettingsError: It leads elsewhere.
        """


class SourceConfig(InputConfig):
    """Something that yields batches of raw transactions."""

    def open_on(self, session: "Callable[[], SparkSession]") -> "TransactionSource":
        """Return the source, which may read with the step's Spark session; nothing is read yet."""
        del session
        return self.open()

    def load_into(self, store: "TransactionStore", accept_changes: str, *, again: bool) -> "LoadReport":
        """Load what the tables do not have yet; parameters and errors as those of `loading.load`.

        Args:
            store: The tables.
            accept_changes: Why the load may change more than the contract allows; empty if it may not.
            again: Whether the tables have lost what they had; for a source that remembers what it has given.
        """
        from mlops_assets.lakehouse.loading import load

        del again
        return load(store, self.open_on(store.lakehouse.spark), accept_changes)

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


class SyntheticTransactions(SourceConfig):
    """Generated transactions, shaped like the ULB credit card set."""

    rows: int = Field(default=150_000, description="Number of transactions.")
    days: float = Field(default=10.0, description="Days they span.")
    fraud_rate: float = Field(default=0.005, description="Share of frauds.")
    seed: int = Field(default=7, description="Seed of the generator.")

    def open(self) -> "TransactionSource":
        """Return the generator."""
        from mlops_assets.data.sources.synthetic import SyntheticSource

        return SyntheticSource(rows=self.rows, days=self.days, fraud_rate=self.fraud_rate, seed=self.seed)

    @property
    def arrivals(self) -> Arrivals:
        """Nothing new ever comes."""
        return Arrivals.NEVER


class GeneratedCards(dg.Config):
    """Which cards are simulated: another choice makes other transactions, of customers with the same numbers."""

    customers: int = Field(default=2_600, description="Number of customers; each makes about a purchase a day.")
    terminals: int = Field(default=600, description="Number of terminals.")
    days: int = Field(default=60, description="Whole days.")
    seed: int = Field(default=7, description="Seed of the simulation.")


class CardTransactions(GeneratedCards, SourceConfig):
    """Generated transactions of cards at terminals; the frauds among them are reported later."""

    def open(self) -> "TransactionSource":
        """Return the generator."""
        from mlops_assets.data.sources.card_sources import CardsSource

        return CardsSource(**self.model_dump())

    @property
    def arrivals(self) -> Arrivals:
        """Nothing new ever comes."""
        return Arrivals.NEVER


class FileTransactions(SourceConfig):
    """CSV, CSV.gz or Parquet files."""

    location: str = Field(description=LOCATION)

    def open(self) -> "TransactionSource":
        """Return the reader."""
        from mlops_assets.data.sources.files import FilesSource

        return FilesSource(self.location, limits=Deployment.from_environment().limits)

    @property
    def arrivals(self) -> Arrivals:
        """Files appear, except on the web."""
        return arrivals_of_files(self.location)

    def require_within(self, place: Self) -> None:
        """Check that each file, folder or glob lies in the model's place.

        Raises:
            SettingsError: One lies elsewhere.
        """
        require_within(self.location, place.location)

    @classmethod
    def of(cls, files: Iterable[str]) -> "FileTransactions":
        """Return a source of exactly these files."""
        return cls(location=joined(files))

    def arrived_on(self, day: date) -> list[str]:
        """Return the files that were last written on a day (UTC), in the order of their arrival.

        Raises:
            SourceError: A place can't be listed, or its storage does not say when files were written.
        """
        from mlops_assets.data.sources.listing import arrived_on

        return arrived_on(self.location, day)


class StreamTransactions(SourceConfig):
    """CSV, CSV.gz or Parquet files that arrive in a folder; Structured Streaming (or Auto Loader) finds them."""

    location: str = Field(description="Folder; a path or any URL that Spark and fsspec know.")
    again: bool = Field(
        default=False, description="Find all files of the folder again; what the tables have is not loaded twice."
    )
    settle_seconds: float = Field(
        default=20.0, ge=0, description="A file that is younger than this is taken if it has not changed after a pause."
    )

    def open(self) -> "TransactionSource":
        """Return the reader of all files that are there."""
        from mlops_assets.data.sources.files import FilesSource

        return FilesSource(self.location, limits=Deployment.from_environment().limits)

    def load_into(self, store: "TransactionStore", accept_changes: str, *, again: bool) -> "LoadReport":
        """Find the files that have arrived, and load what the tables do not have yet."""
        from mlops_assets.lakehouse.arriving_files import ArrivingFiles

        deployment = Deployment.from_environment()
        arriving = ArrivingFiles(
            store.lakehouse,
            self.location,
            auto_loader=deployment.on_cluster,
            settle_seconds=self.settle_seconds,
            limits=deployment.limits,
        )
        return arriving.load_into(store, accept_changes, again=again or self.again)

    @property
    def arrivals(self) -> Arrivals:
        """Only the stream tells."""
        return Arrivals.UNSEEN

    def require_within(self, place: Self) -> None:
        """Check that this is the model's folder.

        Raises:
            SettingsError: It is another one.
        """
        _require_same(self.location, place.location, "folder")


class OpenMLTransactions(SourceConfig):
    """A data set of openml.org, or of another server that speaks its API."""

    dataset: str = Field(default="CreditCardFraudDetection", description="Name or id of the data set.")
    version: int | None = Field(default=None, description="Version of a named data set; the newest active by default.")
    base_url: str = Field(default="https://www.openml.org", description="Server.")
    cache_dir: str = Field(description="Folder for downloaded files.")

    def open(self) -> "TransactionSource":
        """Return the client."""
        from mlops_assets.data.sources.openml import OpenMLSource

        return OpenMLSource(
            self.dataset,
            version=self.version,
            base_url=self.base_url,
            cache_dir=Path(self.cache_dir),
            limits=Deployment.from_environment().limits,
        )

    @property
    def arrivals(self) -> Arrivals:
        """A server tells only when it is asked."""
        return Arrivals.UNSEEN

    def require_within(self, place: Self) -> None:
        """Check that this is the model's data set, on any server.

        Raises:
            SettingsError: It is another one.
        """
        _require_same(self.dataset, place.dataset, "data set")


class DeltaTransactions(SourceConfig):
    """A Delta table that someone else writes."""

    location: str = Field(description="Folder or URL of the table.")
    after_version: int = Field(default=-1, ge=-1, description="Last version to skip; -1 starts with the first.")
    up_to_version: int | None = Field(default=None, description="Last version to read; the newest by default.")
    has_key: bool = Field(default=False, description="Whether the contract has a key, so that rows may come again.")

    def open(self) -> "TransactionSource":
        """Return the reader."""
        from mlops_assets.data.sources.delta import DeltaSource

        return DeltaSource(
            self.location, after_version=self.after_version, up_to_version=self.up_to_version, has_key=self.has_key
        )

    @property
    def arrivals(self) -> Arrivals:
        """The table's log tells."""
        return Arrivals.VERSIONS

    def require_within(self, place: Self) -> None:
        """Check that this is the model's table.

        Raises:
            SettingsError: It is another one.
        """
        _require_same(self.location, place.location, "table")


class TableTransactions(SourceConfig):
    """A table of Unity Catalog that someone else writes, with a change data feed; Spark reads it."""

    table: str = Field(description="Three-level name of the table.")
    after_version: int = Field(default=-1, ge=-1, description="Last version to skip; -1 starts with the first.")
    up_to_version: int | None = Field(default=None, description="Last version to read; the newest by default.")
    has_key: bool = Field(default=False, description="Whether the contract has a key, so that rows may come again.")

    def open(self) -> "TransactionSource":
        """Return the reader, on the process's Spark session."""
        from pyspark.sql import SparkSession

        return self.open_on(SparkSession.active)

    def open_on(self, session: "Callable[[], SparkSession]") -> "TransactionSource":
        """Return the reader, on a session."""
        from mlops_assets.lakehouse.catalog_source import CatalogSource

        return CatalogSource(
            self.table,
            session,
            has_key=self.has_key,
            after_version=self.after_version,
            up_to_version=self.up_to_version,
        )

    @property
    def arrivals(self) -> Arrivals:
        """The catalog tells when a table's definition changed, and not when its rows did."""
        return Arrivals.UNSEEN

    def require_within(self, place: Self) -> None:
        """Check that this is the model's table.

        Raises:
            SettingsError: It is another one.
        """
        _require_same(self.table, place.table, "table")


def source_of(spec: FraudModelSpec, home: Path) -> SourceConfig:
    """Return the source that a spec names.

    Args:
        spec: The model.
        home: Folder for what is downloaded.
    """
    kind, place = spec.source_kind, spec.source_place
    if kind == "synthetic":
        return SyntheticTransactions()
    if kind == "cards":
        return CardTransactions()
    if kind in ("files", "stream"):
        return (FileTransactions if kind == "files" else StreamTransactions)(location=place)
    if kind == "delta":
        return DeltaTransactions(location=place, has_key=spec.contract.key is not None)
    if kind == "table":
        return TableTransactions(table=place, has_key=spec.contract.key is not None)
    cache = str(home / "openml")
    return OpenMLTransactions(dataset=place, cache_dir=cache) if place else OpenMLTransactions(cache_dir=cache)


def require_within(locations: str, place: str) -> None:
    """Check that each file, folder or glob lies within a model's place.

    Args:
        locations: Files, folders or globs, separated by commas.
        place: The same.

    Raises:
        SettingsError: One lies elsewhere.
    """
    from mlops_assets.data.sources.within import outside  # fsspec is slow to import

    if elsewhere := outside(locations, place):
        raise SettingsError(
            f"{', '.join(elsewhere)} lies outside of the model's place",
            where=shown(place),
            fix="move the files there, or change the model's source",
        )


def _require_same(chosen: str, place: str, what: str) -> None:
    if chosen != place:
        raise SettingsError(
            f"the model's {what} is another one than {chosen}", where=shown(place), fix="change the model's source"
        )
