"""Pictures: real PNGs of bounded size that show what they should, on good, degenerate and wrong input."""

import io
import subprocess
import sys
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.calibration import BINS, bins_of_equal_prediction
from mlops_assets.evaluation.plots import curves as plots
from mlops_assets.evaluation.plots.style import BLUE, ORANGE
from mlops_assets.evaluation.threshold import ALERT_NOTHING, Threshold, by_cost

MAX_BYTES = 40_000
ROWS = 30_000
RANDOM = np.random.default_rng(8)
LOGITS = RANDOM.normal(-7, 1, ROWS) + (RANDOM.random(ROWS) < 0.005) * RANDOM.normal(8, 2.5, ROWS)
SCORES = (1 / (1 + np.exp(-LOGITS))).astype(np.float32)
Y = (RANDOM.random(ROWS) < SCORES).astype(np.uint8)
AMOUNTS = RANDOM.gamma(1, 80, ROWS)
CHOICE = by_cost(Y, SCORES, AMOUNTS, 10)
NOTHING = Threshold(ALERT_NOTHING, "cost", 10.0, 0, ROWS)
GAINS = {f"terminal_id_risk_{day}day_window": 1 / (1 + day) for day in range(29)}

REALISTIC = {
    "precision_recall": lambda: plots.precision_recall(Y, SCORES, threshold=CHOICE.threshold, dataset="test set"),
    "calibration": lambda: plots.calibration(Y, SCORES, dataset="test set"),
    "score_histogram": lambda: plots.score_histogram(Y, SCORES, threshold=CHOICE.threshold, dataset="test set"),
    "cost_against_threshold": lambda: plots.cost_against_threshold(CHOICE, dataset="validation set"),
    "feature_importance": lambda: plots.feature_importance(GAINS),
}


@pytest.fixture(autouse=True)
def _layout_warnings_are_failures() -> Iterator[None]:
    # Matplotlib only warns when the parts of a picture do not fit and it gives up laying them out.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def opened(png: bytes) -> Any:
    image = Image.open(io.BytesIO(png))
    image.verify()
    assert image.format == "PNG"
    assert image.size == (960, 600)
    assert len(png) < MAX_BYTES
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def pixels(png: bytes, colour: str) -> int:
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(opened(png) - wanted).max(axis=2) <= 24).sum())


@pytest.fixture(scope="module")
def drawn() -> dict[str, bytes]:
    return {name: draw() for name, draw in REALISTIC.items()}


@pytest.mark.parametrize("name", REALISTIC)
def test_picture_of_realistic_data_is_a_small_png_with_something_drawn(name: str, drawn: dict[str, bytes]):
    assert pixels(drawn[name], BLUE) > 500


def test_pictures_drawn_at_the_same_time_are_the_same_to_the_byte(drawn: dict[str, bytes]):
    with ThreadPoolExecutor(4) as pool:
        together = [(name, pool.submit(draw)) for _ in range(2) for name, draw in REALISTIC.items()]
        for name, future in together:
            assert future.result() == drawn[name], name


def test_pyplot_and_its_global_state_are_never_imported():
    code = "import sys, mlops_assets.evaluation.plots.curves; sys.exit('matplotlib.pyplot' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_chosen_point_is_marked_where_there_is_one():
    marked = plots.cost_against_threshold(CHOICE, dataset="validation set")
    unmarked = plots.cost_against_threshold(by_cost(Y, SCORES, AMOUNTS, 1e6), dataset="validation set")
    assert pixels(marked, ORANGE) > 150
    assert pixels(unmarked, ORANGE) == 0


DEGENERATE_SCORES = {
    "all scores 0": np.zeros(ROWS, dtype=np.float32),
    "all scores 1": np.ones(ROWS),
    "constant": np.full(ROWS, 0.3),
    "perfect": np.where(Y == 1, 1.0, 0.0),
    "all wrong": np.where(Y == 1, 0.0, 1.0),
}


@pytest.mark.parametrize("scores", DEGENERATE_SCORES.values(), ids=DEGENERATE_SCORES.keys())
def test_degenerate_scores_are_drawn(scores: Any):
    for threshold in (NOTHING, Threshold(0.9999, "cost", 10.0, 0, ROWS)):
        opened(plots.precision_recall(Y, scores, threshold=threshold, dataset="test set"))
        opened(plots.score_histogram(Y, scores, threshold=threshold, dataset="test set"))
    opened(plots.calibration(Y, scores, dataset="test set"))
    for alert_cost in (0, 1e9):
        opened(plots.cost_against_threshold(by_cost(Y, scores, AMOUNTS, alert_cost), dataset="validation set"))
    opened(plots.cost_against_threshold(by_cost(Y, scores, AMOUNTS * 0, 1), dataset="validation set"))


def test_two_rows_are_drawn():
    y, scores = np.array([0, 1]), np.array([0.2, 0.7])
    opened(plots.precision_recall(y, scores, threshold=NOTHING, dataset="test set"))
    opened(plots.score_histogram(y, scores, threshold=NOTHING, dataset="test set"))
    opened(plots.calibration(y, scores, dataset="test set"))


@pytest.mark.parametrize("gains", [{}, {"a": 0.0}, {"a": 1.0}, {"a": 1.0, "b": 0.0}, {"x" * 40: 2.0, "y": 1.0}])
def test_degenerate_importances_are_drawn(gains: Any):
    opened(plots.feature_importance(gains))


@pytest.mark.parametrize(
    "draw",
    [
        lambda: plots.precision_recall(Y * 0, SCORES, threshold=NOTHING, dataset="test set"),
        lambda: plots.score_histogram(Y[:5], SCORES, threshold=NOTHING, dataset="test set"),
        lambda: plots.calibration(Y, SCORES * 2, dataset="test set"),
        lambda: plots.feature_importance({"a": -1.0}),
        lambda: plots.feature_importance({"a": float("nan")}),
    ],
)
def test_wrong_input_is_refused(draw: Any):
    with pytest.raises(EvaluationError):
        draw()


def test_calibration_bins_share_out_the_predicted_frauds_and_never_split_a_tie():
    scores = np.round(SCORES.astype(float), 3)
    bins = bins_of_equal_prediction(scores)
    assert all(len(np.unique(bins[scores == value])) == 1 for value in np.unique(scores))
    assert (np.diff(bins[np.argsort(scores)]) >= 0).all()
    share = np.bincount(bins, weights=scores) / scores.sum()
    assert len(share) == BINS
    largest_tie = max((scores == value).sum() * value for value in np.unique(scores)) / scores.sum()
    assert share.max() < 1 / BINS + largest_tie


@pytest.mark.parametrize(("successes", "trials"), [(0, 10), (3, 10), (10, 10), (1, 20_000)])
def test_wilson_interval_ends_where_the_observed_share_is_just_significant(successes: int, trials: int):
    ends = np.concatenate(plots._wilson(np.array([float(successes)]), np.array([float(trials)])))
    distance = np.abs(successes / trials - ends)
    assert distance == pytest.approx(1.959964 * np.sqrt(ends * (1 - ends) / trials), abs=1e-7)
    assert 0 <= ends[0] < ends[1] <= 1
