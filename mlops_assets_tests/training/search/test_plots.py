"""Pictures of a search: real PNGs of bounded size that show each kind of trial, on good, degenerate and wrong input."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from mlops_assets.errors import EvaluationError
from mlops_assets.evaluation.plots.style import GREEN, MUTED, ORANGE
from mlops_assets.training.records import TrialRecord, TrialState
from mlops_assets.training.search.plots import tuning_history
from mlops_assets_tests.evaluation.plots.test_curves import opened, pixels
from mlops_assets_tests.training.spaces import seed_point


def trial(
    number: int, value: float | None, state: TrialState = "finished", *, depth: int = 5, rate: float = 0.1
) -> TrialRecord:
    point = seed_point(depth, 40, rate, 0.05, 0.05)
    return TrialRecord(number, point, "failed" if value is None else state, value, value, 1.0)


def search(values: list[float | None]) -> list[TrialRecord]:
    return [trial(number, value, depth=3 + number % 7) for number, value in enumerate(values)]


def many(count: int) -> list[TrialRecord]:
    random = np.random.default_rng(3)
    found = []
    for number in range(count):
        depth, trees = int(random.integers(3, 10)), int(random.integers(10, 100))
        rate, alpha, base = (
            float(random.uniform(low, high)) for low, high in ((0.001, 0.5), (0.01, 0.1), (0.001, 0.1))
        )
        value = 0.75 - 0.6 * np.exp(-rate * trees / 4) + 0.01 * depth + random.normal(0, 0.005)
        state: TrialState = "failed" if number % 17 == 9 else "pruned" if number > 12 and value < 0.7 else "finished"
        point = seed_point(depth, trees, rate, alpha, base)
        found.append(TrialRecord(number, point, state, None if state == "failed" else value, None, 1.0))
    return found


@pytest.fixture(autouse=True)
def _layout_warnings_are_failures() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.fixture(scope="module")
def drawn() -> bytes:
    return tuning_history(many(200), objective="kappa")


def test_a_picture_of_a_real_search_is_a_small_png_with_something_drawn(drawn: bytes):
    assert pixels(drawn, GREEN) > 500


def test_the_same_search_gives_the_same_picture_also_at_the_same_time(drawn: bytes):
    with ThreadPoolExecutor(2) as pool:
        together = [pool.submit(tuning_history, many(200), objective="kappa") for _ in range(2)]
        for future in together:
            assert future.result() == drawn


def test_failed_trials_are_marked_and_only_they():
    assert pixels(tuning_history(search([0.5, None, 0.6]), objective="kappa"), ORANGE) > 50
    assert pixels(tuning_history(search([0.5, 0.4, 0.6]), objective="kappa"), ORANGE) == 0


def test_pruned_trials_are_shown_and_are_never_the_best():
    """The best so far stays at 0.6 although a pruned trial had 0.9: no green is drawn above the middle."""
    trials = [trial(0, 0.6), trial(1, 0.9, "pruned"), trial(2, 0.3)]
    with_pruned = opened(tuning_history(trials, objective="kappa"))[80:]
    green = np.flatnonzero((with_pruned[:, :, 1] - with_pruned[:, :, 0] > 100).any(axis=1))

    assert green[0] > 150
    assert pixels(tuning_history(trials, objective="kappa"), MUTED) > pixels(
        tuning_history([trial(0, 0.6), trial(1, None), trial(2, 0.3)], objective="kappa"), MUTED
    )


def test_the_running_best_climbs_when_maximising_and_falls_when_minimising():
    trials = search([0.5, 0.2, 0.9, 0.4])
    spans = []
    for goal in ("maximise", "minimise"):
        picture = opened(tuning_history(trials, objective="kappa", goal=goal))[80:]  # below the legend
        green = np.flatnonzero((picture[:, :, 1] - picture[:, :, 0] > 100).any(axis=1))
        spans.append((green[0], green[-1]))
    (top_up, bottom_up), (top_down, bottom_down) = spans
    assert top_up + 50 < top_down, "from 0.5 only the climbing line reaches 0.9"
    assert bottom_up + 50 < bottom_down, "from 0.5 only the falling line reaches 0.2"


@pytest.mark.parametrize("values", [[0.5], [None, 0.5, None], [0.5] * 3, [-1e9, 1e9], [0.0, 0.0]])
def test_degenerate_searches_are_drawn(values: Any):
    opened(tuning_history(search(values), objective="kappa"))


@pytest.mark.parametrize("values", [[], [None, None], [0.5, float("nan")], [0.5, float("inf")]])
def test_a_search_without_a_usable_trial_is_refused(values: Any):
    with pytest.raises(EvaluationError):
        tuning_history(search(values), objective="kappa")


def test_trials_on_a_sample_of_the_rows_are_not_drawn():
    whole = search([0.5, 0.4, None, 0.6])
    screened = [dataclasses.replace(trial(9, 0.9, state), share=0.1) for state in ("screened", "pruned")]

    drawn = tuning_history([*screened, *whole], objective="kappa")

    assert np.array_equal(opened(drawn), opened(tuning_history(whole, objective="kappa")))
