"""What materializations say: data versions that follow the rows, links, thumbnails, no number that means nothing."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import dagster as dg
import numpy as np
import pytest

from mlops_assets.assets.splits import TABLES
from mlops_assets.evaluation.plots import thumbnails
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.tracking import Tracking
from mlops_assets.testing.invoking import Outcome, plain
from mlops_assets_tests.assets.conftest import Loaded, Searched
from mlops_assets_tests.assets.harness import SMALL, load, register, split, transactions, write_csv

# Dagster shows Markdown at once up to here, and behind a link from here on.
AT_ONCE = 1_000
INLINE = "data:image"


def versions(results: Iterable[dg.MaterializeResult[None] | dg.AssetMaterialization]) -> list[str]:
    given = (result.data_version for result in results if isinstance(result, dg.MaterializeResult))
    return [str(version and version.value) for version in given]


def sentinels(metadata: dict[str, Any]) -> list[str]:
    """Return the names of values that stand for "nothing"."""
    return [
        name
        for name, value in metadata.items()
        if value in (-1, "", "none", "None", "nan", None) or (isinstance(value, float) and not math.isfinite(value))
    ]


# --- data versions ----------------------------------------------------------------------------------------------------


@pytest.mark.proof  # three loads
def test_a_load_that_adds_nothing_keeps_the_data_version_and_one_that_adds_rows_does_not(
    known: Lakehouse, tmp_path: Path
):
    again, more = (
        load(known, write_csv(transactions(seed=seed), tmp_path / f"{seed}.csv")).of("raw_transactions")
        for seed in (5, 6)
    )

    first = known.data_version(known.require("raw_transactions", made_by="test"))
    assert versions(again) == ["0-" + first.partition("-")[2]]
    assert versions(more) == [first]
    assert first.startswith("1-")


@pytest.mark.proof  # a load
def test_another_database_has_another_data_version_of_the_same_number(small_loaded: Loaded, known: Lakehouse):
    tables = [lake.require("raw_transactions", made_by="test") for lake in (small_loaded.lakehouse, known)]

    assert [table.rows_version for table in tables] == [0, 0]
    assert small_loaded.lakehouse.data_version(tables[0]) != known.data_version(tables[1])
    assert versions(small_loaded.outcome.of("raw_transactions")) == [small_loaded.lakehouse.data_version(tables[0])]


@pytest.mark.proof  # four cuts
def test_the_split_id_is_the_data_version_and_follows_the_rows_and_not_the_place(
    prepared: Lakehouse, new_lakehouse: Callable[[], Lakehouse]
):
    """The same rows in another database, and other rows there: same contract, same version of the raw table."""
    same, other = new_lakehouse(), new_lakehouse()
    assert load(same).failure is None
    assert load(other, SMALL.model_copy(update={"seed": 4})).failure is None

    outcomes = [split(database) for database in (prepared, same, other)]

    assert [outcome.failure for outcome in outcomes] == [None] * 3
    told = [{str(plain(result)["split_id"]) for result in outcome.results} for outcome in outcomes]
    assert told == [set(versions(outcome.results)) for outcome in outcomes]
    assert told[0] == told[1] != told[2]
    assert {plain(outcome.results[0])["raw_version"] for outcome in outcomes} == {0}


@pytest.mark.proof  # two searches
def test_the_model_says_what_it_was_trained_on(searched_once: Searched):
    told = searched_once.outcome.metadata
    sets = [searched_once.lakehouse.require(table, made_by="test") for table in TABLES.values()]

    assert told["split_id"] == sets[0].metadata["split_id"]
    assert told["raw_data_version"] == sets[0].metadata["raw_data_version"]
    assert told["trained_rows"] == sum(searched_once.lakehouse.read(s.name, s.version).count() for s in sets)
    assert told["late_labels"] == 0
    (version,) = versions(searched_once.outcome.results)
    assert len(bytes.fromhex(version)) == 32, "SHA-256 of the booster"


# --- what a person sees -----------------------------------------------------------------------------------------------


@pytest.mark.proof  # a search
def test_no_metadata_holds_a_sentinel(
    small_loaded: Loaded, searched_once: Searched, tuned: Lakehouse, tracking: Tracking
):
    outcomes: list[Outcome] = [small_loaded.outcome, searched_once.outcome, split(tuned), register(tuned, tracking)]

    for outcome in outcomes:
        for result in outcome.results:
            assert sentinels(plain(result)) == [], result.asset_key


def test_a_sentinel_is_noticed():
    assert sentinels({"rows": 0, "version": -1, "age": float("nan"), "notes": "none", "gap": None}) == [
        "version",
        "age",
        "notes",
        "gap",
    ]


@pytest.mark.proof  # a search
def test_two_thumbnails_stand_in_the_table_and_every_picture_is_linked(searched_once: Searched):
    told = searched_once.outcome.metadata
    store = searched_once.tracking.connect()

    shown = {name: text for name, text in told.items() if INLINE in str(text)}
    assert set(shown) == {"precision_recall", "tuning_history"}
    for text in shown.values():
        assert len(text) < AT_ONCE
        svg = base64.b64decode(text.partition("base64,")[2].rstrip(")"))
        assert ET.fromstring(svg).tag.endswith("svg")  # noqa: S314 - our own
    run = f"http://127.0.0.1:5001/#/experiments/{store.experiment_id}/runs/{told['mlflow_run_id']}"
    assert told["mlflow_run"] == run
    for folder in ("pictures", "explanation"):
        for file in store.client.list_artifacts(told["mlflow_run_id"], folder):
            assert (f"]({run}/artifacts/{file.path})" in told["pictures"]) == file.path.endswith(".png")


@pytest.mark.parametrize("rows", [200, 40_000])
def test_a_thumbnail_is_small_whatever_the_number_of_rows(rows: int):
    random = np.random.default_rng(rows)
    y = (random.random(rows) < 0.05).astype(np.uint8)
    curve = thumbnails.precision_recall(y, np.clip(0.3 * y + random.random(rows) * 0.7, 0, 1))
    history = thumbnails.line(np.arange(rows, dtype=float), random.random(rows), "best average precision by trial, 1")

    scores = np.clip(0.3 * y + random.random(rows) * 0.7, 0, 1)
    both = thumbnails.two_precision_recalls(y, scores, random.random(rows))
    moments = 1.7e9 + np.cumsum(random.random(90)) * 1e6
    champions = thumbnails.steps(moments, np.arange(100.0, 190.0), moments[-1] + 5, "champion: version 189 since x" * 2)
    assert max(map(len, (curve, history, both, champions))) <= thumbnails.MAX_BYTES
    assert both.count("<polyline") == 2
    assert "challenger AP 0." in both
    flat = thumbnails.line(np.zeros(1), np.ones(1), "one trial")
    assert ET.fromstring(flat) is not None  # noqa: S314 - our own


@pytest.mark.proof  # a search
def test_tables_and_versions_are_links(split_once: Lakehouse, tuned: Lakehouse, tracking: Tracking):
    registered = register(tuned, tracking).results[0]
    metadata = dict(registered.metadata or {})

    assert split_once.url("train_set") == Path(split_once.location("train_set")).as_uri()
    assert metadata["mlflow_version"] == dg.MetadataValue.url(
        "http://127.0.0.1:5001/#/models/fraud_creditcard_synthetic/versions/1"
    )
    assert versions([registered]) == ["fraud_creditcard_synthetic/1"]
    assert plain(registered)["candidate"] > 0, "a number to plot over time"
