"""The plot of a finished search, as the bytes of a PNG.

What belongs here: drawing trials. What does not: plots of a model on rows of data (`evaluation/plots/curves`), and
plots of child runs that MLflow's own UI draws, such as parallel coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.ticker import MaxNLocator

from mlops_assets.evaluation.metrics import refuse
from mlops_assets.evaluation.plots.style import (
    BLUE,
    DASHED,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    label_vertical,
    legend,
    one_panel,
    png,
)

if TYPE_CHECKING:
    from mlops_assets.evaluation.ranking import FloatArray
    from mlops_assets.training.records import TrialRecord

Goal = Literal["maximise", "minimise"]


def tuning_history(trials: Sequence[TrialRecord], *, objective: str, goal: Goal = "maximise") -> bytes:
    """Draw the objective of each trial in order of finish, the best so far, and the pruned and failed trials.

    Trials on a sample of the training rows are left out: their values can't be compared with the others.

    Args:
        trials: All trials, those resumed from an earlier search first.
        objective: Label of the value axis.
        goal: Which direction is better.

    Raises:
        EvaluationError: No trial finished, or a value is not finite.
    """
    trials = [trial for trial in trials if trial.share == 1]
    value, finished = _values(trials)
    pruned = np.array([trial.state == "pruned" for trial in trials])
    failed = np.array([trial.state == "failed" for trial in trials])
    order = np.arange(1, len(trials) + 1)
    best_of, winner_of = (np.fmax, np.nanargmax) if goal == "maximise" else (np.fmin, np.nanargmin)
    counted = np.where(finished, value, np.nan)
    winner = int(winner_of(counted))
    figure, axes = one_panel("Search history", f"best {value[winner]:.4g} at trial {winner + 1} of {len(trials)}")
    axes.plot(order[finished], value[finished], "o", color=BLUE, markersize=5, alpha=0.6, mew=0, label="finished")
    axes.step(order, best_of.accumulate(counted), where="post", color=GREEN, linewidth=2, label="best so far")
    if pruned.any():
        label = f"pruned ({pruned.sum():,})"
        axes.plot(order[pruned], value[pruned], "v", color=MUTED, markersize=5.5, mfc="white", label=label)
    if failed.any():
        at_the_bottom: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "label": f"failed ({failed.sum():,})"}
        axes.plot(order[failed], np.full(failed.sum(), 0.03), "x", color=ORANGE, markersize=7, mew=1.8, **at_the_bottom)
    axes.plot(order[winner], value[winner], "o", color=GREEN, markersize=9, markeredgecolor="white", zorder=4)
    axes.set(xlim=(0.5, len(trials) + 0.5), xlabel="trial, in order of finish", ylabel=objective)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    axes.margins(y=0.14)
    resumed = sum(bool(trial.resumed_from) for trial in trials)
    if 0 < resumed < len(trials):
        axes.axvline(resumed + 0.5, color=INK, linewidth=1.2, linestyle=DASHED)
        label_vertical(axes, resumed + 0.5, f"resumed after {resumed}")
    legend(axes)
    return png(figure)


def _values(trials: Sequence[TrialRecord]) -> tuple[FloatArray, Any]:
    """Return the value of each trial [n], NaN for failed ones, and whether it finished [n]."""
    value = np.array([np.nan if trial.value is None else trial.value for trial in trials], dtype=np.float64)
    finished = np.array([trial.state == "finished" for trial in trials], dtype=bool)
    if not finished.any():
        refuse(f"none of {len(trials)} trials finished", where="trials", fix="draw a search with a usable trial")
    if not np.all(np.isfinite(value[finished])):
        refuse("a value is not finite", where="trials", fix="record such a trial as failed")
    return value, finished
