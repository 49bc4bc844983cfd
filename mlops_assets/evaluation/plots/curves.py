"""Pictures of an evaluation, each returned as the bytes of a PNG.

What belongs here: drawing. What does not: computing metrics beyond what a picture bins or sorts, writing files,
pictures of a search (`training/search/plots`).

Drawn with matplotlib's object interface on the Agg canvas, never with pyplot, whose current figure is shared by the
whole process: several trials or assets may draw at the same time. For the same reason no text uses mathtext, whose
parser is shared too; that is why ticks are labelled here and not by matplotlib's log formatter.

A picture is 960 x 600 pixels, laid out to be read at 640. Colours are those of Okabe and Ito (2008), which stay apart
for all common forms of colour blindness; no meaning rests on colour alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter

from mlops_assets.evaluation.calibration import bins_of_equal_prediction
from mlops_assets.evaluation.metrics import checked_labels_and_scores, refuse
from mlops_assets.evaluation.plots.style import (
    BLUE,
    DASHED,
    INK,
    MUTED,
    ORANGE,
    SMALL_SIZE,
    TEXT_SIZE,
    amount,
    label_counts,
    label_scores,
    label_vertical,
    legend,
    mark,
    note,
    one_panel,
    panel_and_strip,
    percent,
    png,
    score_limits,
    score_position,
)
from mlops_assets.evaluation.ranking import Array, FloatArray, RankedScores
from mlops_assets.evaluation.threshold import CostChoice, Threshold

_TOP_FEATURES = 20


def precision_recall(y_true: Array, scores: Array, *, threshold: Threshold, dataset: str) -> bytes:
    """Draw precision over recall, with the base rate and the chosen threshold; the area under it is the AP.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        threshold: The alert threshold to mark.
        dataset: Name of the block of rows, for the title.

    Raises:
        EvaluationError: Labels or scores on which the curve is not defined.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    ranking = RankedScores(fraud, score).weighted(np.ones(len(fraud)))
    caught = np.cumsum(ranking.gained)
    recall, precision = caught / caught[-1], caught / ranking.alerts
    subtitle = f"average precision {ranking.average_precision():.3f}, {int(caught[-1]):,} frauds in {len(fraud):,} rows"
    figure, axes = one_panel(f"Precision and recall, {dataset}", subtitle)
    axes.step(np.append(0, recall), np.append(precision[0], precision), where="pre", color=BLUE, linewidth=1.8)
    axes.set(xlim=(0, 1.02), ylim=(0, 1.04), xlabel="recall (share of frauds alerted)")
    axes.set_ylabel("precision (share of alerts that are fraud)")
    base = float(fraud.mean())
    axes.axhline(base, color=MUTED, linestyle=DASHED, linewidth=1.2)
    note(axes, f"base rate {percent(base)}", (0.0, base))
    alerted = threshold.alerted(scores)
    alerts = int(alerted.sum())
    if alerts:
        here = (float(fraud[alerted].sum() / caught[-1]), float(fraud[alerted].mean()))
        text = f"threshold {threshold.label}: {alerts:,} alerts,\nprecision {here[1]:.2f}, recall {here[0]:.2f}"
        mark(axes, here, text)
    else:
        axes.text(0.98, 0.96, "no row reaches the threshold", ha="right", va="top", color=ORANGE, fontsize=TEXT_SIZE)
    return png(figure)


def calibration(y_true: Array, scores: Array, *, dataset: str) -> bytes:
    """Draw the observed fraud rate over the mean score per bin, on logit axes, with the rows of each bin below.

    Bins are quantiles of the predicted frauds: each holds about the same sum of scores. Bins of equal row counts would
    put nearly all frauds into the last one. The bins depend on the scores alone, so the observed rates stay unbiased;
    bars are 95 % Wilson intervals (Wilson 1927).

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        dataset: Name of the block of rows, for the title.

    Raises:
        EvaluationError: Labels or scores that are invalid.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    bins = bins_of_equal_prediction(score)
    counts = np.bincount(bins)
    used = counts > 0
    rows = counts[used].astype(np.float64)
    frauds = np.bincount(bins[fraud], minlength=len(counts))[used].astype(np.float64)
    observed = frauds / rows
    predicted = np.bincount(bins, weights=score)[used] / rows
    # Rates of 0 and 1 have no place on a logit axis: such a bin stands open at the edge.
    edge = (observed == 0) | (observed == 1)
    sums = f"predicted {score.sum():,.0f} frauds, observed {int(fraud.sum()):,}"
    marks = "dashed: perfect; bars: 95 % interval" + ("; open: rate 0 or 1" if edge.any() else "")
    figure, axes, below = panel_and_strip(f"Calibration, {dataset}", f"{sums}; {marks}")
    limits = score_limits(np.concatenate([predicted, observed[~edge]]))
    x, y = score_position(predicted), np.clip(score_position(observed), *limits)
    axes.plot(limits, limits, color=MUTED, linestyle=DASHED, linewidth=1.2)
    low, high = _wilson(frauds, rows)
    axes.vlines(x, score_position(low), score_position(high), color=BLUE, linewidth=1.6, alpha=0.55)
    axes.plot(x, y, "o", color=BLUE, markersize=6)
    axes.plot(x[edge], y[edge], "o", color=BLUE, markersize=6, markerfacecolor="white")
    room = 0.04 * (limits[1] - limits[0])
    axes.set(xlim=(limits[0] - room, limits[1] + room), ylim=(limits[0] - room, limits[1] + 2 * room))
    axes.set_ylabel("observed fraud rate (logit axis)")
    below.vlines(x, 0.5, rows, color=BLUE, linewidth=5)
    below.set(yscale="log", ylim=(0.5, 3 * rows.max()), ylabel="rows")
    below.set_xlabel("mean score of the bin: predicted fraud rate (logit axis)")
    label_scores(axes.yaxis, limits)
    label_scores(below.xaxis, limits)
    label_counts(below.yaxis, float(rows.max()))
    return png(figure)


def score_histogram(y_true: Array, scores: Array, *, threshold: Threshold, dataset: str) -> bytes:
    """Draw how the scores of genuine rows and of frauds are distributed, counts on a log axis.

    Args:
        y_true: Labels [n], 0 or 1.
        scores: Scores [n], float32 or float64 in [0, 1].
        threshold: The alert threshold to mark.
        dataset: Name of the block of rows, for the title.

    Raises:
        EvaluationError: Labels or scores that are invalid.
    """
    fraud, score = checked_labels_and_scores(y_true, scores)
    position = score_position(score)
    limits = score_limits(score if threshold.alerts_nothing else np.append(score, threshold.value))
    edges = np.linspace(*limits, 46)
    figure, axes = one_panel(f"Scores by class, {dataset}")
    for name, members, color, hatch in (("genuine", ~fraud, BLUE, None), ("fraud", fraud, ORANGE, "////")):
        counts, _ = np.histogram(position[members], bins=edges)
        label = f"{name} ({int(members.sum()):,})"
        look: dict[str, Any] = {"facecolor": (color, 0.3), "edgecolor": color, "linewidth": 1.5, "hatch": hatch}
        axes.stairs(counts, edges, baseline=0.6, fill=True, label=label, **look)
    highest = float(np.histogram(position, bins=edges)[0].max())
    axes.set(yscale="log", ylim=(0.6, 4 * highest), xlim=limits, ylabel="rows")
    if not threshold.alerts_nothing:
        at = float(score_position(np.array([threshold.value]))[0])
        axes.axvline(at, color=INK, linewidth=1.2, linestyle=DASHED)
        label_vertical(axes, at, f"threshold {threshold.label}")
    axes.set_xlabel("score: predicted probability of fraud (logit axis)")
    label_scores(axes.xaxis, limits)
    label_counts(axes.yaxis, highest)
    legend(axes)
    return png(figure)


def cost_against_threshold(choice: CostChoice, *, dataset: str) -> bytes:
    """Draw what each threshold would have cost, with the chosen one and the cost of alerting nothing.

    Args:
        choice: What `threshold.by_cost` returned.
        dataset: Name of the block of rows that the choice was made on, for the title.
    """
    threshold = choice.threshold
    chosen = f"{amount(choice.cost)} with {threshold.alerts:,} alerts at {amount(threshold.setting)} each"
    others = f"alert nothing: {amount(choice.cost_of_no_alerts)}, everything: {amount(choice.costs[-1])}"
    figure, axes = one_panel(f"Cost of missed frauds and alerts, {dataset}", f"least cost {chosen}; {others}")
    position = score_position(choice.thresholds)
    low, high = score_limits(choice.thresholds)
    low, high = low - 0.05, high + 0.05
    # Above the highest score nothing is alerted; each score's cost holds down to the next lower score.
    x = np.concatenate(([high], position, [low]))
    costs = np.concatenate(([choice.cost_of_no_alerts], choice.costs, choice.costs[-1:]))
    axes.step(x, costs, where="post", color=BLUE, linewidth=1.8)
    axes.axhline(choice.cost_of_no_alerts, color=MUTED, linestyle=DASHED, linewidth=1.2)
    # Alerting nearly everything costs orders of magnitude more than anyone would pay, so the top is cut off.
    axes.set(xlim=(low, high), ylim=(0, 1.7 * choice.cost_of_no_alerts or 1), ylabel="cost (currency of the amounts)")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda cost, _: amount(cost)))
    nothing = "alert nothing, the choice" if threshold.alerts_nothing else "alert nothing"
    note(axes, nothing, (high, choice.cost_of_no_alerts), from_right=True)
    if not threshold.alerts_nothing:
        here = (float(score_position(np.array([threshold.value]))[0]), choice.cost)
        mark(axes, here, f"threshold {threshold.label}")
    axes.set_xlabel("threshold: score from which rows are alerted (logit axis)")
    label_scores(axes.xaxis, (low, high))
    return png(figure)


def feature_importance(gains: Mapping[str, float]) -> bytes:
    """Draw the features with the largest gain as shares of the gain of all features.

    Args:
        gains: Gain by feature name, >= 0, as XGBoost's `get_score(importance_type="gain")` returns it: the mean
            reduction of the loss per split. Features that no split uses may be absent.

    Raises:
        EvaluationError: A gain that is negative or not finite.
    """
    if any(not np.isfinite(gain) or gain < 0 for gain in gains.values()):
        refuse("a gain that is negative or not finite", where="gains", fix="pass the gains of a trained booster")
    total = sum(gains.values())
    if total == 0:
        figure, axes = one_panel("Feature importance")
        axes.text(0.5, 0.5, "the model splits on no feature", ha="center", color=MUTED, transform=axes.transAxes)
        axes.set_axis_off()
        return png(figure)
    ranked = sorted(gains.items(), key=lambda item: (-item[1], item[0]))
    shown, rest = ranked[:_TOP_FEATURES], ranked[_TOP_FEATURES:]
    others = f"; {len(rest)} more share {100 * sum(gain for _, gain in rest) / total:.1f} %" if rest else ""
    figure, axes = one_panel(
        "Feature importance", f"mean loss reduction per split, top {len(shown)} of {len(gains)} features{others}"
    )
    shares = [100 * gain / total for _, gain in shown]
    bars = axes.barh(range(len(shown)), shares, color=BLUE, height=0.7)
    axes.bar_label(bars, [f"{share:.1f}" for share in shares], padding=3, fontsize=SMALL_SIZE - 1, color=MUTED)
    axes.set_yticks(range(len(shown)), [name for name, _ in shown])
    axes.set(ylim=(max(len(shown), 5) - 0.4, -0.6), xlim=(0, 1.1 * shares[0]), xlabel="share of all gain (%)")
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=False)
    return png(figure)


def _wilson(successes: FloatArray, trials: FloatArray) -> tuple[FloatArray, FloatArray]:
    z = 1.959964  # the 97.5 % point of the normal distribution
    share = successes / trials
    spread = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    centre = share + z**2 / (2 * trials)
    return (centre - spread) / scale, (centre + spread) / scale
