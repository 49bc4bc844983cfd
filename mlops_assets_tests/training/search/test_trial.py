"""A trial in its own process: checkpoints cost no bit, end what has lost, and whatever goes wrong is a result."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from mlops_assets.training.matrix import Matrix
from mlops_assets.training.objective import fit, judge, quantized
from mlops_assets.training.plan import Objective
from mlops_assets.training.search.shared_data import Samples
from mlops_assets.training.search.stopping import PruningThresholds
from mlops_assets.training.search.trial import Assignment, TrialTask
from mlops_assets_tests.training.spaces import seed_point

POINT = seed_point(3, 48, 0.3)


@dataclasses.dataclass(frozen=True)
class Here:
    """Rows that are in the process already."""

    sets: tuple[Matrix, ...]

    def load(self) -> tuple[Samples, ...]:
        """Return them."""
        return tuple(Samples.of(rows) for rows in self.sets)

    def release(self) -> None:
        """Keep them."""


def task(sets: tuple[Matrix, ...], name: str, every: int, patience: int, **changed: Any) -> TrialTask:
    made = TrialTask(name, Here(sets), "average_precision", 42, 1, every, patience)
    return dataclasses.replace(made, **changed)


def value_of(sets: tuple[Matrix, Matrix], rounds: int, objective: Objective = "average_precision") -> float:
    """Return the value of a model with so many trees, fitted and judged from nothing."""
    train, validation = sets
    binned = quantized(train, threads=1)
    model = fit(POINT, binned, seed=42, threads=1, rounds=rounds)
    return judge(objective, validation.y, model.predict(quantized(validation, threads=1, ref=binned)))


@pytest.mark.parametrize("objective", ["average_precision", "kappa", "f1", "log_loss"])
def test_each_checkpoint_has_the_bits_of_a_model_of_that_size(halves: tuple[Matrix, Matrix], objective: Objective):
    result = task(halves, objective, every=5, patience=0, objective=objective)(Assignment(POINT))

    assert [rounds for rounds, _ in result["curve"]] == [5, 10, 15, 20, 25, 30, 35, 40, 45, 48]
    assert result["curve"] == [(rounds, value_of(halves, rounds, objective)) for rounds, _ in result["curve"]]
    assert (result["rounds"], result["value"]) == result["curve"][-1]  # no early stopping: all trees count


def test_early_stopping_keeps_the_best_checkpoint_and_fits_no_more_than_it_must(halves: tuple[Matrix, Matrix]):
    free = task(halves, "early", every=2, patience=0)(Assignment(POINT))
    stopped = task(halves, "early", every=2, patience=6)(Assignment(POINT))

    last = stopped["curve"][-1][0]
    assert last < POINT["n_estimators"], "the rows are chosen so that it stops"
    assert stopped["curve"] == free["curve"][: len(stopped["curve"])]
    assert last - stopped["rounds"] == 6
    assert stopped["value"] == max(value for _, value in stopped["curve"]) == value_of(halves, stopped["rounds"])
    assert stopped["loss"] == -stopped["value"]
    assert not stopped["pruned"]


def test_a_hopeless_trial_ends_at_the_first_bar_it_misses_with_its_curve(halves: tuple[Matrix, Matrix]):
    free = task(halves, "pruned", every=5, patience=0)(Assignment(POINT))

    ended = task(halves, "pruned", every=5, patience=0)(Assignment(POINT, PruningThresholds((5, 15), (1.0, -1.0))))

    assert ended["pruned"]
    assert ended["curve"] == free["curve"][:3]
    assert ended["value"] == max(value for _, value in ended["curve"])
    assert not free["pruned"]


def test_a_trial_that_misses_a_bar_with_its_last_tree_has_finished(halves: tuple[Matrix, Matrix]):
    result = task(halves, "last", every=5, patience=0)(Assignment(POINT, PruningThresholds((48,), (-1.0,))))

    assert not result["pruned"]
    assert result["rounds"] == 48


def test_the_exact_budget_looks_once(halves: tuple[Matrix, Matrix]):
    result = task(halves, "exact", every=0, patience=0)(Assignment(POINT))

    assert result["curve"] == []
    assert (result["rounds"], result["value"]) == (48, value_of(halves, 48))


def test_a_prediction_that_is_no_number_is_a_failure_and_not_the_best(halves: tuple[Matrix, Matrix]):
    """hyperopt would take a loss of NaN for the best."""
    endless = {**POINT, "learning_rate": float("inf")}  # no space has it: leaves become infinite, then NaN
    train, validation = halves
    assert np.isnan(fit(endless, quantized(train, threads=1), seed=42, threads=1).inplace_predict(validation.X)).any()

    result = task(halves, "nan", every=5, patience=10)(Assignment(endless))

    assert result["status"] == "fail"
    assert "scores are not in [0, 1]" in result["error"]
    assert "loss" not in result
    assert result["error"]
    assert result["seconds"] > 0


def test_an_objective_that_raises_is_a_result(halves: tuple[Matrix, Matrix]):
    train, validation = halves
    narrow = dataclasses.replace(validation, X=validation.X[:, :5])

    result = task((train, narrow), "raises", every=5, patience=10)(Assignment(POINT))

    assert result["status"] == "fail"
    assert result["error"].splitlines()[0].startswith("ValueError: ('feature names must have the same length")
    assert "Traceback" in result["error"]


def folded(halves: tuple[Matrix, Matrix]) -> tuple[tuple[Matrix, ...], tuple[int, ...]]:
    """Return the sets of a search with two earlier folds, and the training rows of each."""
    train, validation = halves
    quarter = np.arange(train.rows) // 500
    return (train, validation, train.where(quarter == 3), train.where(quarter == 2)), (1_500, 1_000)


def test_the_value_over_folds_is_the_mean_of_what_each_gives_alone(halves: tuple[Matrix, Matrix]):
    sets, older = folded(halves)
    train, *judged = sets

    result = task(sets, "folds", every=5, patience=10, older_rows=older)(Assignment(POINT))

    # The newest fold is today's single block to the last bit; earlier ones only take its bins.
    alone = task(halves, "newest", every=5, patience=10)(Assignment(POINT))
    values, rounds, curves = zip(*result["folds"], strict=True)
    assert (values[0], rounds[0], curves[0]) == (alone["value"], alone["rounds"], alone["curve"])
    assert (result["rounds"], result["curve"]) == (alone["rounds"], alone["curve"])
    binned = quantized(train, threads=1)
    for number, rows in enumerate(older, 1):
        part = quantized(train.where(np.arange(train.rows) < rows), threads=1, ref=binned)
        model = fit(POINT, part, seed=42, threads=1, rounds=rounds[number])
        scores = model.predict(quantized(judged[number], threads=1, ref=binned))
        assert values[number] == judge("average_precision", judged[number].y, scores)
    assert result["value"] == sum(values) / 3
    assert result["loss"] == -result["value"]
    assert not result["pruned"]


def test_a_trial_whose_running_mean_is_hopeless_ends_and_is_not_flattered(halves: tuple[Matrix, Matrix]):
    sets, older = folded(halves)
    trial = task(sets, "hopeless", every=5, patience=0, older_rows=older)
    free, never = PruningThresholds(), PruningThresholds((5,), (-2.0,))

    ended = trial(Assignment(POINT, free, (never, free), (0.5, 0.25)))
    whole = trial(Assignment(POINT, free, (free, PruningThresholds((5,), (1.0,))), (0.5, 0.25)))

    assert ended["pruned"]
    assert [len(curve) for _, _, curve in ended["folds"]] == [10, 1]
    assert ended["loss"] == -ended["value"] + 0.25
    assert not whole["pruned"]
    assert (len(whole["folds"]), whole["loss"]) == (3, -whole["value"])
