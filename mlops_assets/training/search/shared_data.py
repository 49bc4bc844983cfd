"""How the rows reach the processes that run trials: once, and never in a trial's closure.

What belongs here: carrying matrices from the driver to worker processes. What does not: their use there
(`trial`).

On a cluster the rows are broadcast: Spark sends one copy to each executor, and each worker process unpickles it. Where
the executors run on the driver's machine, the rows are memory-mapped files instead: all workers share the same pages,
so no worker holds its own copy. Either way a worker releases the rows once it has binned them.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from pyspark import Broadcast
    from pyspark.sql import SparkSession

    from mlops_assets.training.categories import Levels
    from mlops_assets.training.matrix import Matrix

_ARRAYS = ("X", "y", "days")


@dataclass(frozen=True)
class Samples:
    """The part of a matrix that a trial needs.

    Attributes:
        features: Names of the columns of `X`.
        X: float32 [rows, features].
        y: uint8 [rows], 1 = fraud.
        days: int64 [rows], day number of the event.
        levels: What the codes of categories mean, by feature.
        monotone: Features in which the score may only rise (1) or fall (-1).
    """

    features: tuple[str, ...]
    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.uint8]
    days: npt.NDArray[np.int64]
    levels: Levels = field(default_factory=dict)
    monotone: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Matrix) -> Samples:
        """Return them from a matrix."""
        return cls(rows.features, rows.X, rows.y, rows.days, rows.levels, rows.monotone)

    def first(self, rows: int) -> Samples:
        """Return the first rows."""
        return replace(self, X=self.X[:rows], y=self.y[:rows], days=self.days[:rows])


class SharedData(Protocol):
    """A reference to the rows that is small to pickle."""

    def load(self) -> tuple[Samples, ...]:
        """Return training and validation rows, then the validation rows of earlier folds, in a worker process."""

    def release(self) -> None:
        """Free the rows that `load` brought into this process; they can be loaded again."""


@dataclass(frozen=True)
class BroadcastData:
    """Rows that Spark sends to each executor."""

    broadcast: Broadcast[tuple[Samples, ...]]

    def load(self) -> tuple[Samples, ...]:
        """Return the sets, unpickled from the executor's copy."""
        return self.broadcast.value

    def release(self) -> None:
        """Drop the unpickled rows, which PySpark keeps in the process as long as the broadcast exists."""
        # With spark.io.encryption there is no file to read them from again, so they stay.
        if "_path" in vars(self.broadcast):
            vars(self.broadcast).pop("_value", None)


@dataclass(frozen=True)
class MappedData:
    """Rows in NumPy files on a disk that the workers can read too; all sets are of one contract."""

    folder: str
    features: tuple[str, ...]
    levels: tuple[Levels, ...]
    monotone: Mapping[str, int]

    @classmethod
    def write(cls, folder: Path, sets: Sequence[Matrix]) -> MappedData:
        """Write the sets into a folder."""
        for number, matrix in enumerate(sets):
            for name in _ARRAYS:
                np.save(folder / f"{name}{number}.npy", getattr(matrix, name))
        return cls(str(folder), sets[0].features, tuple(matrix.levels for matrix in sets), sets[0].monotone)

    def load(self) -> tuple[Samples, ...]:
        """Return the sets, memory-mapped."""
        return tuple(self._map(number) for number in range(len(self.levels)))

    def release(self) -> None:
        """Do nothing: a memory map is closed together with its arrays."""

    def _map(self, number: int) -> Samples:
        X, y, days = (np.load(Path(self.folder) / f"{name}{number}.npy", mmap_mode="r") for name in _ARRAYS)
        return Samples(self.features, X, y, days, self.levels[number], self.monotone)


@contextmanager
def shared(spark: SparkSession, *sets: Matrix) -> Iterator[SharedData]:
    """Make training, validation and further rows available to the session's workers for the length of a block."""
    context = spark.sparkContext
    if str(context.master).startswith("local"):  # local[2], local-cluster[2,1,1024], a single-node cluster
        # Spark's scratch folder is deleted by the JVM, which outlives this process if this process is killed.
        folder = Path(tempfile.mkdtemp(prefix="search-", dir=context._temp_dir))  # noqa: SLF001 - there is no public name
        try:
            yield MappedData.write(folder, sets)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        return
    broadcast = context.broadcast(tuple(Samples.of(matrix) for matrix in sets))
    try:
        yield BroadcastData(broadcast)
    finally:
        broadcast.destroy()
