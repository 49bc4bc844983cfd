"""`mlops score`: a file's rows with the scores that XGBoost itself gives, and what is refused."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xgboost as xgb

from mlops_assets.cli.score import run_score
from mlops_assets.errors import SchemaMismatchError, SourceError, TrackingError
from mlops_assets_tests.serving.kit import LEVELS, rows
from mlops_assets_tests.serving.registry import Registry

COUNT = 60


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    return Registry(tmp_path_factory.mktemp("score"))


@pytest.fixture(scope="module")
def booster(registry: Registry) -> xgb.Booster:
    return registry.register(1)


def table() -> pa.Table:
    X = rows(COUNT, 5)
    return pa.table(
        {
            "id": [f"{number:020d}" for number in range(COUNT)],
            "amount": X[:, 0].astype(float),
            "count": X[:, 1].astype(int),
            "channel": [LEVELS["channel"][int(code)] for code in X[:, 2]],
            "risk": pa.array(X[:, 3].astype(float), from_pandas=True),
        }
    )


def written(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_scores_are_those_of_xgboost_and_other_columns_stay_as_written(
    registry: Registry, booster: xgb.Booster, tmp_path: Path, kind: str
):
    source, output = tmp_path / f"in.{kind}", tmp_path / "out.csv"
    given = table()
    if kind == "parquet":
        pq.write_table(given, source)
    else:
        lines = [",".join(given.column_names)]
        lines += [",".join("" if value is None else str(value) for value in row.values()) for row in given.to_pylist()]
        source.write_text("\n".join(lines), encoding="utf-8")

    assert run_score(registry.settings, registry.spec, source, output) == 0

    found = written(output)
    data = xgb.DMatrix(
        rows(COUNT, 5), feature_names=["amount", "count", "channel", "risk"], feature_types=["q", "q", "c", "q"],
        enable_categorical=True,
    )  # fmt: skip
    assert (
        np.array([float(row["probability_of_fraud"]) for row in found], np.float32).tolist()
        == booster.predict(data).tolist()
    )
    assert [row["id"] for row in found] == given.column("id").to_pylist()
    assert {row["wrong"] for row in found} == {""}


def test_rows_that_break_the_contract_have_no_score_and_a_reason(
    registry: Registry, booster: xgb.Booster, tmp_path: Path
):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text("amount,count,channel,risk\n1,2,web,0.5\n-1,2,web,0.5\n1,x,web,0.5\n1,2,web,7\n")

    assert run_score(registry.settings, registry.spec, source, output) == 0

    found = written(output)
    assert [bool(row["probability_of_fraud"]) for row in found] == [True, False, False, False]
    assert [row["wrong"].rpartition(":")[2] for row in found] == ["", "amount", "count", "risk"]


@pytest.mark.parametrize(
    ("content", "error", "text"),
    [
        ("amount,count,channel\n1,2,web\n", SchemaMismatchError, "columns are missing: risk"),
        ("", SourceError, "empty"),
        ("amount,count,channel,risk\n" + "1,2,web,0.5\n" * 30, SourceError, "more than 20 rows"),
    ],
    ids=["column missing", "empty", "too many rows"],
)
def test_a_file_that_can_t_be_scored_is_one_error(
    registry: Registry, booster: xgb.Booster, tmp_path: Path, content: str, error: type[Exception], text: str
):
    source, output = tmp_path / "in.csv", tmp_path / "out.csv"
    source.write_text(content)
    settings = registry.settings.model_copy(update={"input_limits": {"rows": 20}})

    with pytest.raises(error, match=text):
        run_score(settings, registry.spec, source, output)
    assert not output.exists()


def test_without_a_champion_there_is_one_error(tmp_path: Path):
    empty = Registry(tmp_path / "home")
    source = tmp_path / "in.csv"
    source.write_text("amount,count,channel,risk\n1,2,web,0.5\n")

    with pytest.raises(TrackingError, match="no champion"):
        run_score(empty.settings, empty.spec, source, None)
