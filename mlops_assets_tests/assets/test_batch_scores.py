"""`batch_scores`: each row once for a version, with the bits of the served model, whatever dies or runs twice."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pytest
import xgboost as xgb
from deltalake import DeltaTable, write_deltalake

from mlops_assets.assets.batch_scores import BatchScoresConfig, build_batch_scores
from mlops_assets.assets.sources import FileTransactions
from mlops_assets.data.contract.contract import Contract, parse_contract
from mlops_assets.definitions import build_defs
from mlops_assets.errors import SettingsError
from mlops_assets.lakehouse.commits import TableVersion
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.score_table import SCORES
from mlops_assets.lakehouse.transaction_tables import RAW
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec
from mlops_assets.testing.invoking import Outcome, collect, load_source, plain
from mlops_assets_tests.assets.harness import HERE, Databases
from mlops_assets_tests.lakehouse.dying import Killed, dying
from mlops_assets_tests.serving.kit import CONTRACT, LEVELS, contract, rows
from mlops_assets_tests.serving.registry import Registry

NAMES = ["amount", "count", "channel", "risk"]


def table(count: int, seed: int, **more: Any) -> pa.Table:
    """Return rows under the contract of the serving tests; every third row is of a card of its own."""
    X = rows(count, seed).astype(np.float64)
    channels = [LEVELS["channel"][int(code)] for code in X[:, 2]]
    columns: dict[str, Any] = {
        "at": [f"2026-11-01T12:{n // 60 % 60:02d}:{n % 60:02d}" for n in range(count)],
        "card": [f"card-{n // 3}" for n in range(count)],
        "amount": X[:, 0],
        "count": X[:, 1].astype(np.int64),
        "channel": [*channels[:-1], "fax"],  # a level that no model has seen
        "risk": [None if np.isnan(value) else value for value in X[:, 3]],
        "fraud": [n % 2 for n in range(count)],
    }
    return pa.table({**columns, **more})


class World:
    """A registry, a database and a model whose raw rows are scored."""

    def __init__(self, home: Path, lakehouse: Lakehouse, scored: str = "raw", given: Contract | None = None) -> None:
        self.home, self.lakehouse = home, lakehouse
        self.registry = Registry(home)
        update = {"batch_scores": scored, "contract": given or contract()}
        self.spec: FraudModelSpec = self.registry.spec.model_copy(update=update)

    def load(self, found: pa.Table, name: str) -> None:
        path = self.home / f"{name}.csv"
        pa_csv.write_csv(found, path)
        source = FileTransactions(location=str(path))
        assert load_source(Databases(self.lakehouse), self.spec, source).failure is None

    def score(self, **config: Any) -> Outcome:
        tracking = Tracking(mlflow_tracking_uri=self.registry.settings.mlflow_uri)
        with dg.build_asset_context() as context:
            return collect(
                build_batch_scores(self.spec)(
                    context,
                    config=BatchScoresConfig(**config),
                    lakehouse=Databases(self.lakehouse),
                    tracking=tracking,
                    loader_cluster=HERE,
                )
            )

    def added(self, **config: Any) -> int:
        outcome = self.score(**config)
        assert outcome.failure is None, outcome.failure
        return int(plain(outcome.results[0])["rows_added"])

    @property
    def scores(self) -> pa.Table:
        place = [("_batch_id", "ascending"), ("_row_number", "ascending"), ("version", "ascending")]
        return DeltaTable(self.lakehouse.location(SCORES)).to_pyarrow_table().sort_by(place)


@pytest.fixture
def world(tmp_path: Path, lakehouse: Lakehouse) -> World:
    return World(tmp_path, lakehouse)


def by_hand(booster: xgb.Booster, found: pa.Table) -> Any:
    """Score rows with nothing of ours: float32 [rows]."""
    place = {level: float(at) for at, level in enumerate(LEVELS["channel"])}
    channel = [place.get(level, np.nan) for level in found.column("channel").to_pylist()]
    columns = [channel if name == "channel" else found.column(name).to_pandas().to_numpy() for name in NAMES]
    X = np.column_stack(columns).astype(np.float32)
    types = ["q", "q", "c", "q"]
    return booster.predict(xgb.DMatrix(X, feature_names=NAMES, feature_types=types, enable_categorical=True))


def test_each_row_is_scored_once_with_the_bits_of_the_model(world: World):
    booster = world.registry.register(1, threshold=0.25)
    world.load(table(60, 1), "a")

    first = world.added(reasons=2)
    nothing = world.added()
    world.load(table(40, 2), "b")
    second = world.added()

    raw = DeltaTable(world.lakehouse.location(RAW)).to_pyarrow_table()
    raw = raw.sort_by([("_batch_id", "ascending"), ("_row_number", "ascending")])
    scores = world.scores
    assert (first, nothing, second) == (60, 0, 40)
    assert scores.select(["_batch_id", "_row_number", "card"]).equals(raw.select(["_batch_id", "_row_number", "card"]))
    expected = by_hand(booster, raw)
    found = scores.column("score").to_numpy()
    assert np.array_equal(found.astype(np.float32).view(np.uint32), expected.view(np.uint32))
    assert scores.column("decision").to_pylist() == ["review" if score >= 0.25 else "approve" for score in found]
    assert set(scores.column("version").to_pylist()) == {1}
    assert set(scores.column("policy").to_pylist()) == {"v1-cost"}
    reasons = scores.column("reasons").to_pylist()
    assert sorted({len(named) for named in reasons}) == [0, 2]
    assert sum(map(bool, reasons)) == 60, "the second run was not asked for any"
    assert len(DeltaTable(world.lakehouse.location(SCORES)).history()) == 2, "a run without new rows commits nothing"


@pytest.mark.proof  # several runs
def test_a_new_champion_scores_new_rows_and_the_others_where_it_is_asked_to(world: World):
    world.registry.register(1)
    world.load(table(30, 1), "a")
    assert world.added() == 30
    booster = world.registry.register(2)
    world.load(table(20, 2), "b")

    new, again, nothing = world.added(), world.added(again=True), world.added(again=True)

    assert (new, again, nothing) == (20, 30, 0)
    versions = world.scores.column("version").to_pylist()
    assert (versions.count(1), versions.count(2)) == (30, 50)
    assert booster.num_boosted_rounds()


@pytest.mark.proof  # several runs
def test_two_runs_at_once_and_killed_ones_score_each_row_once(world: World):
    """No lock keeps the two apart, as on cloud storage; the version that both have read does."""
    world.registry.register(1)
    whole = world.lakehouse

    class DiesBefore(Lakehouse):
        def _commit(self, *_: Any, **__: Any) -> TableVersion:
            raise Killed

    for number, dead in enumerate(
        (
            DiesBefore(spark=whole.spark, database=whole.database, root=whole.root, locks=whole.locks),
            dying(whole, lambda name, *_: name == SCORES),
        )
    ):
        world.load(table(30, number), f"killed{number}")
        world.lakehouse = dead
        with pytest.raises(Killed):
            world.score()
        world.lakehouse = whole
    assert world.added() == 0, "the second one had committed"
    for number in range(3):
        world.load(table(20, 10 + number), f"both{number}")
        world.lakehouse = replace(whole, locks="")
        with ThreadPoolExecutor(2) as both:
            runs = list(both.map(lambda _: world.score(), range(2)))
        world.lakehouse = whole
        assert [run.failure for run in runs] == [None, None]

    places = world.scores.select(["_batch_id", "_row_number"]).to_pylist()
    assert len(places) == 120
    assert len({tuple(place.values()) for place in places}) == 120


def test_without_a_champion_or_with_another_file_in_its_place_nothing_is_scored(world: World):
    world.load(table(30, 1), "a")
    nobody = world.score()
    world.registry.register(1)
    (model,) = world.home.glob("mlflow/**/model.ubj")
    model.write_bytes(bytes(world.registry.register(2).save_raw()))
    world.registry.point(1)
    changed = world.score()

    assert "the model has no champion" in str(nobody.failure)
    assert "the version is broken: model.ubj differ from what was registered" in str(changed.failure)
    assert world.lakehouse.current(SCORES) is None


@pytest.mark.proof  # several runs
def test_a_table_of_ones_own_is_scored_by_key_and_must_have_the_columns(tmp_path: Path, lakehouse: Lakehouse):
    keyed = CONTRACT.replace("target: fraud", "target: fraud\nkey: id").replace(
        "columns:", "columns:\n  - {name: id, type: string}"
    )
    place = tmp_path / "mine"
    world = World(tmp_path, lakehouse, f"delta:{place}", parse_contract(keyed, where="test"))
    booster = world.registry.register(1)
    missing = world.score()
    mine = table(20, 3, id=[f"t-{n}" for n in range(20)], amount=[-1.0, *rows(20, 3)[1:, 0].astype(np.float64)])
    write_deltalake(place, mine.drop_columns(["risk"]))
    lacking = world.score()
    write_deltalake(place, mine, mode="overwrite", schema_mode="overwrite")

    first = world.score()
    write_deltalake(place, table(25, 3, id=[f"t-{n}" for n in range(25)]), mode="append")
    assert first.failure is None
    assert (plain(first.results[0])["rows_added"], plain(first.results[0])["rows_that_break_the_contract"]) == (20, 1)
    assert world.added() == 5

    scores = world.scores.sort_by("id")
    bad = scores.filter(pa.compute.equal(scores.column("id"), "t-0")).to_pylist()[0]
    assert (bad["score"], bad["decision"], bad["findings"]) == (None, None, ["out_of_range:amount"])
    good = {row["id"]: row["score"] for row in scores.to_pylist()}
    expected = by_hand(booster, mine)
    assert [good[f"t-{n}"] for n in range(1, 19)] == expected[1:19].astype(np.float64).tolist()
    assert "the table can't be read" in str(missing.failure)
    assert "columns are missing: risk" in str(lacking.failure)


def test_a_model_has_the_asset_where_it_says_whose_rows_are_scored(world: World):
    def names(scored: str | None) -> set[str]:
        found = build_defs(world.registry.settings.model_copy(update={"batch_scores": scored}))
        keys = {key.to_user_string() for key in found.resolve_asset_graph().get_all_asset_keys()}
        return keys | {job.name for job in found.jobs or ()}

    assert names("raw") - names(None) == {"batch_scores", "score_rows"}
    with pytest.raises(SettingsError, match=r"rows of another table are named by the contract's key"):
        names("delta:/tables/mine")
