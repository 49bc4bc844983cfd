"""The choice of the engine on both sides of each border, and the cluster's memory as it is read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.errors import SearchError
from mlops_assets.training.engines.choice import (
    MEMORY_FACTOR,
    AskedEngine,
    DriverRows,
    EngineChoice,
    choose_engine,
)
from mlops_assets.training.engines.cluster_memory import (
    ClusterMemory,
    _Host,
    _machine_bytes,
    _worker_bytes,
    bytes_of,
    cluster_memory,
)

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

GIB = 2**30


@given(rows=st.integers(1, 10**9), features=st.integers(1, 500))
def test_the_border_lies_where_the_data_just_fit(rows: int, features: int):
    needed = int(rows * (features * 4 * MEMORY_FACTOR + 64))

    assert choose_engine(rows, features, ClusterMemory(needed)).engine == "memory"
    assert choose_engine(rows, features, ClusterMemory(max(1, needed - 1))).engine == (
        "distributed" if needed > 1 else "memory"
    )


@given(rows=st.integers(1, 10**9), features=st.integers(1, 500))
def test_what_the_driver_may_not_collect_is_trained_where_it_is(rows: int, features: int):
    collected = rows * (features * 8 + 72)
    plenty = 10**15

    assert choose_engine(rows, features, ClusterMemory(plenty, collected)).engine == "memory"
    assert choose_engine(rows, features, ClusterMemory(plenty, collected - 1)).engine == "distributed"
    assert choose_engine(rows, features, ClusterMemory(plenty, None)).engine == "memory"


def test_the_reason_says_what_was_weighed():
    fits = choose_engine(454_881, 29, ClusterMemory(10 * GIB, GIB)).reason
    too_much = choose_engine(100_000_000, 29, ClusterMemory(10 * GIB, None)).reason
    too_wide = choose_engine(20_000_000, 29, ClusterMemory(100 * GIB, GIB)).reason

    assert fits == "454,881 rows x 29 features need about 0.15 GiB of a worker's 10 GiB: they fit"
    assert too_much == "100,000,000 rows x 29 features need about 33 GiB of a worker's 10 GiB: too much"
    assert "5.66 GiB to collect, and spark.driver.maxResultSize is 1 GiB" in too_wide


def test_what_is_asked_for_by_hand_is_taken_and_a_bad_choice_is_said():
    small, large = ClusterMemory(1_000), ClusterMemory(10 * GIB)

    assert choose_engine(1_000, 10, large, "distributed").engine == "distributed"
    forced = choose_engine(1_000, 10, small, "memory")
    assert forced.engine == "memory"
    assert "but 1,000 rows" in forced.reason
    assert choose_engine(1_000, 10, large, "memory").reason == "asked for by hand"


def test_the_driver_must_hold_the_columns_and_the_copies_of_the_largest_set():
    """By hand: 29 features and 4 more columns; the rows of the search, and the test or refit rows twice as sent."""
    rows, most, columns = 1_000_000, 3_000_000, 33
    sent = most * (columns * 8 + 72)
    held = rows * (29 * 4 + 34) + 2 * sent + most * (29 * 4 + 34)
    driver = DriverRows(columns, most, judged=1_000)

    def chosen(result: int | None, python: int | None) -> EngineChoice:
        return choose_engine(rows, 29, ClusterMemory(10**12, result, python), driver=driver)

    assert chosen(sent, held).engine == "memory"
    by_result, by_memory = chosen(sent - 1, held), chosen(sent, held - 1)
    assert by_result.engine == by_memory.engine == "distributed"
    assert "3,000,000 rows x 33 columns are 0.939 GiB to collect" in by_result.reason
    assert "the driver needs about 2.44 GiB" in by_memory.reason


def test_what_spark_is_sure_to_refuse_is_refused_before_and_says_what_to_raise():
    memory = ClusterMemory(10**12, GIB, 10**12)
    driver = DriverRows(33, 4_000_000)
    with pytest.raises(SearchError, match=r"can't train here.*Fix: raise spark.driver.maxResultSize to at least 1.25"):
        choose_engine(1_000_000, 29, memory, "memory", driver=driver)
    with pytest.raises(SearchError, match=r"can't use bags .*Fix: raise spark.driver.maxResultSize to at least 1.25"):
        choose_engine(1_000_000, 29, memory, driver=driver, only_in_memory=["bags"])
    assert choose_engine(1_000_000, 29, memory, "memory", driver=DriverRows(33, 3_000_000)).engine == "memory"


@pytest.mark.parametrize("asked", ["auto", "distributed"])
def test_a_set_whose_scores_the_driver_can_not_hold_is_refused_before_the_search(asked: AskedEngine):
    rows = GIB // 37

    def chosen(judged: int, python: int) -> EngineChoice:
        driver = DriverRows(33, 100 * judged, judged)
        return choose_engine(rows, 29, ClusterMemory(1_000_000, GIB, python), asked, driver=driver)

    assert chosen(rows, 10**12).engine == "distributed"
    with pytest.raises(SearchError, match=r"the scores of .* raise spark.driver.maxResultSize to at least 1 GiB"):
        chosen(rows + 1, 10**12)
    with pytest.raises(SearchError, match=r"the scores of .* take a driver with several times 1 GiB"):
        chosen(rows, GIB // 2)


@pytest.mark.parametrize(("rows", "features", "worker"), [(0, 3, 100), (3, 0, 100), (3, 3, 0)])
def test_nothing_to_decide_on_is_refused(rows: int, features: int, worker: int):
    with pytest.raises(SearchError, match="bytes a worker"):
        choose_engine(rows, features, ClusterMemory(worker))


@pytest.mark.parametrize(
    ("answers", "host", "expected"),
    [
        ([(32 * GIB, None)], _Host(8 * GIB, 4), 6 * GIB),
        ([(32 * GIB, None), (16 * GIB, None)], _Host(8 * GIB, 4), 2 * GIB),
        ([(32 * GIB, GIB)], _Host(8 * GIB, 4), GIB),
        ([(32 * GIB, 100 * GIB)], _Host(8 * GIB, 4), 6 * GIB),
        ([(4 * GIB, None)], _Host(8 * GIB, 4), 4 * GIB // 10 // 4),
    ],
    ids=["share beside the heap", "smallest machine", "Spark's limit", "a wide limit", "heaps above the machine"],
)
def test_a_worker_has_its_share_of_the_machine(answers: Any, host: _Host, expected: int):
    assert _worker_bytes(answers, host) == expected


def test_memory_of_a_local_session(spark: SparkSession):
    found = cluster_memory(spark)

    assert found.worker_bytes == (_machine_bytes() - GIB) // 2  # local[2] with a driver heap of 1g
    assert found.result_bytes == GIB
    assert found.driver_bytes == _machine_bytes() - GIB


@pytest.mark.parametrize(
    ("size", "expected"), [("512", 512 * 2**20), ("512m", 512 * 2**20), ("4g", 4 * GIB), ("1024B", 1024), ("0", 0)]
)
def test_sizes_as_spark_writes_them(size: str, expected: int):
    assert bytes_of(size) == expected


@pytest.mark.parametrize("size", ["", "much", "1.5g", "-1g"])
def test_what_is_no_size_is_refused(size: str):
    with pytest.raises(SearchError, match="is not a size"):
        bytes_of(size)
