"""Pictures of a search that is over, each returned as the bytes of a PNG.

What belongs here: drawing trials. What does not: pictures of a model on rows of data (`plots`, which also says how all
of them are drawn), computing importance (`importance`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import MaxNLocator

from mlops_assets.evaluation.metrics import refuse
from mlops_assets.evaluation.plots.style import (
    BLUE,
    DASHED,
    GREEN,
    INK,
    MUTED,
    ORANGE,
    SMALL_SIZE,
    TEXT_SIZE,
    label_vertical,
    legend,
    one_panel,
    png,
)
from mlops_assets.training.objective import MAXIMIZED
from mlops_assets.training.search.importance import FEWEST_TRIALS, Importance, parameter_importance

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from mlops_assets.evaluation.ranking import FloatArray
    from mlops_assets.training.plan import SearchPlan
    from mlops_assets.training.records import SearchResult, TrialRecord
    from mlops_assets.training.space import SearchSpace

Goal = Literal["maximise", "minimise"]

_FEW_TRIALS = 40
# More lines than this are a tangle, and a file of hundreds of kilobytes.
_LINES, _PRUNED_LINES = 20, 10
_PALE = "#D9D9D9"
_WORST_TO_BEST = LinearSegmentedColormap.from_list("worst to best", ["#C9DCE8", "#7FB2D1", BLUE], N=3)
_NOTHING_TO_SHOW: dict[str, Any] = {"ha": "center", "va": "center", "color": MUTED, "fontsize": TEXT_SIZE}


def search_pictures(found: SearchResult, plan: SearchPlan) -> dict[str, bytes]:
    """Return all pictures of a search: PNG by file name."""
    goal: Goal = "maximise" if plan.objective in MAXIMIZED else "minimise"
    objective = f"validation {plan.objective}"
    return {
        "tuning_history.png": tuning_history(found.trials, objective=objective, goal=goal),
        "parameter_importance.png": importance_of_parameters(
            parameter_importance(found.trials, plan.space, seed=plan.seed), objective=objective
        ),
        "parallel_coordinates.png": parallel_coordinates(found.trials, plan.space, objective=objective, goal=goal),
    }


def tuning_history(trials: Sequence[TrialRecord], *, objective: str, goal: Goal = "maximise") -> bytes:
    """Draw the objective of each trial in order of finish, the best so far, and which were pruned or failed.

    Args:
        trials: All trials, those taken over from an earlier search first.
        objective: What the values are, for the axis.
        goal: Which direction is better.

    Raises:
        EvaluationError: No trial that finished, or a value that is not finite.
    """
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


def importance_of_parameters(importance: Importance | None, *, objective: str) -> bytes:
    """Draw the share of the objective's variance that each hyperparameter explains.

    Args:
        importance: What `parameter_importance` returned; None draws a word on why there is none.
        objective: What the values are.
    """
    if importance is None:
        figure, axes = one_panel("Importance of hyperparameters")
        text = f"not known: it takes {FEWEST_TRIALS} finished trials\nwith different values and a space to choose from"
        axes.text(0.5, 0.5, text, transform=axes.transAxes, **_NOTHING_TO_SHOW)
        axes.set_axis_off()
        return png(figure)
    doubt = ": too few to be sure" if importance.trials < _FEW_TRIALS else ""
    figure, axes = one_panel(
        "Importance of hyperparameters",
        f"what each explains of the {objective}; {importance.trials:,} finished trials{doubt}",
    )
    ranked = sorted(importance.share, key=lambda name: -importance.share[name])
    shares = [100 * importance.share[name] for name in ranked]
    axes.barh(ranked, shares, color=BLUE, height=0.6)
    spread = [100 * importance.spread[name] for name in ranked]
    rows = np.arange(len(ranked))
    ends = np.maximum(np.array(shares) - spread, 0), np.minimum(np.array(shares) + spread, 100)
    axes.hlines(rows, *ends, color=INK, linewidth=1.4)
    others = 100 * importance.together
    axes.barh(["several together"], [others], color="white", edgecolor=MUTED, hatch="////", height=0.6)
    for row, (share, end) in enumerate(zip([*shares, others], [*ends[1], others], strict=True)):
        axes.annotate(
            f"{share:.1f}",
            (end, row),
            (5, 0),
            textcoords="offset points",
            va="center",
            color=MUTED,
            fontsize=SMALL_SIZE,
        )
    longest = max([*ends[1], others])
    axes.set(ylim=(max(len(ranked), 4) + 0.6, -0.6), xlim=(0, 1.12 * longest))
    axes.set_xlabel("share of the variance over the space (%), with the standard deviation over trees")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    return png(figure)


def parallel_coordinates(
    trials: Sequence[TrialRecord], space: SearchSpace, *, objective: str, goal: Goal = "maximise"
) -> bytes:
    """Draw the best trials as lines over the tuned hyperparameters to their values, and pruned ones behind them.

    Lines of pruned trials end before the objective: theirs is of a smaller model.

    Args:
        trials: All trials.
        space: What was searched; the axes of the parameters are its bounds.
        objective: What the values are.
        goal: Which direction is better; better is up.

    Raises:
        EvaluationError: No trial that finished, or a value that is not finite.
    """
    value, finished = _values(trials)
    bounds = {name: (low, high) for name, (low, high) in space.as_dict().items() if low < high}
    sign = 1.0 if goal == "maximise" else -1.0
    points = [trial.point.as_dict() for trial in trials]
    heights = np.array(
        [[(point[name] - low) / (high - low) for name, (low, high) in bounds.items()] for point in points]
    ).reshape(len(trials), len(bounds))
    score = sign * value
    ranked = np.flatnonzero(finished)[np.argsort(score[finished], kind="stable")][-_LINES:]
    worst, best = float(score[ranked[0]]), float(score[ranked[-1]])
    lines = np.column_stack([heights[ranked], (score[ranked] - worst) / (best - worst or 1.0)])
    pruned = heights[[trial.state == "pruned" for trial in trials]][-_PRUNED_LINES:]
    also = f", {len(pruned):,} pruned in grey" if len(pruned) else ""
    shown = f"best {len(ranked):,} of {finished.sum():,} finished{also}"
    figure, axes = one_panel(
        "Trials in parallel coordinates", f"{shown}; darker is better, orange the best: {sign * best:.4g}"
    )
    _draw_lines(axes, pruned, colors=_PALE, linewidths=0.6, zorder=1)
    _draw_lines(axes, lines, colors=_WORST_TO_BEST(np.linspace(0, 1, len(lines))), linewidths=0.9, zorder=2)
    axes.plot(lines[-1], "o-", color=ORANGE, linewidth=2.4, markersize=5, zorder=3, clip_on=False)
    labels = [(name, f"{low:g}", f"{high:g}") for name, (low, high) in bounds.items()]
    _label_axes(axes, [*labels, (objective, f"{sign * worst:.4g}", f"{sign * best:.4g}")])
    return png(figure)


def _values(trials: Sequence[TrialRecord]) -> tuple[FloatArray, Any]:
    """Return the value of each trial [n], NaN for failed ones, and which have finished [n]."""
    value = np.array([np.nan if trial.value is None else trial.value for trial in trials], dtype=np.float64)
    finished = np.array([trial.state == "finished" for trial in trials], dtype=bool)
    if not finished.any():
        refuse(f"none of {len(trials)} trials finished", where="trials", fix="draw a search with a usable trial")
    if not np.all(np.isfinite(value[finished])):
        refuse("a value that is not finite", where="trials", fix="record such a trial as failed")
    return value, finished


def _draw_lines(axes: Axes, heights: FloatArray, **look: Any) -> None:
    """Draw lines over equally distant axes, given their heights [lines, axes]."""
    x = np.broadcast_to(np.arange(heights.shape[1]), heights.shape)
    # Smoothed edges of so many crossing lines would make the file four times as large.
    axes.add_collection(LineCollection(list(np.stack([x, heights], axis=2)), antialiaseds=False, **look))


def _label_axes(axes: Axes, labels: Sequence[tuple[str, str, str]]) -> None:
    """Draw a vertical axis for each label: its name, its lower and its upper end."""
    last = len(labels) - 1
    for at, (_, low, high) in enumerate(labels):
        axes.plot([at, at], [0, 1], color=INK, linewidth=1.0, zorder=1.5)
        place: dict[str, Any] = {"ha": "center", "color": INK, "fontsize": SMALL_SIZE}
        axes.text(at, 1.025, high, va="bottom", **place)
        axes.text(at, -0.025, low, va="top", **place)
    axes.set(xlim=(-0.45, last + 0.45), ylim=(-0.09, 1.09))
    axes.set_xticks(range(last + 1), [name.replace(" ", "\n") for name, _, _ in labels])
    axes.set_yticks([])
    axes.tick_params(axis="x", length=0)
    axes.grid(visible=False)
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
