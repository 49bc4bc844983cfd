"""Rows reach the workers once, bit for bit, and both ways of bringing them can be let go and loaded again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mlops_assets.training.matrix import Matrix
from mlops_assets.training.search.shared_data import BroadcastData, MappedData, Samples, SharedData, shared

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def looking_twice(data: SharedData) -> Callable[[Any], list[tuple[Any, ...]]]:
    def look(_: Any) -> list[tuple[Any, ...]]:
        seen: list[tuple[Any, ...]] = []
        for _number in range(2):
            seen += [(rows.features, rows.X.dtype.str, rows.X.tobytes(), rows.y.tobytes()) for rows in data.load()]
            data.release()
            seen.append(("_value" in vars(getattr(data, "broadcast", object)),))
        return seen

    return look


def test_both_ways_bring_the_same_rows_as_often_as_they_are_asked(
    spark: SparkSession, halves: tuple[Matrix, Matrix], tmp_path: Path
):
    ways: list[SharedData] = [
        MappedData.write(tmp_path, halves),
        BroadcastData(spark.sparkContext.broadcast(tuple(Samples.of(m) for m in halves))),
    ]
    want = [(m.features, "<f4", m.X.tobytes(), m.y.tobytes()) for m in halves]
    for data in ways:
        first, second, released, *again = spark.sparkContext.parallelize([0], 1).flatMap(looking_twice(data)).collect()

        assert [first, second] == want
        assert released == (False,)
        assert again[:2] == want


def test_local_masters_map_files_that_are_gone_afterwards(spark: SparkSession, halves: tuple[Matrix, Matrix]):
    with shared(spark, *halves) as data:
        assert isinstance(data, MappedData)
        train, validation = data.load()
        assert isinstance(train.X, np.memmap)
        assert np.array_equal(validation.X, halves[1].X)
        assert Path(data.folder).is_dir()

    assert not Path(data.folder).exists()
