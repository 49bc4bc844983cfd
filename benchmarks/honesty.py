"""What is each control of honest figures worth? Its figure with the control off and on, where the truth is known.

Every row is a simulation whose truth does not come from the platform: an integral, a fixed scorer, two equal models.
The same simulations stand behind the tests of the controls. `docs/explanation/honest-figures.md` has the table that
this prints.

- **Maturity** (20 histories): bias of average precision, with early reports admitting rows and by age alone.
- **Intervals** (nominal 95 %, frauds in series of eight a card): how often they hold the truth, with rows drawn and
  with cards drawn.
- **Promotions** (periods of 14 days, series of four): the rule "average precision not below the champion's" against the
  gate as it is by default. A year has 52 gates; a candidate at +0.03 is one whose average precision on a very long
  period is 0.03 higher.
- **Unseen rows**: a champion that has seen a third of the test rows, against a candidate that is better.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from benchmarks import _late_reports, _series, _weekly_gates
from benchmarks._report import report
from mlops_assets.evaluation.bootstrap import Contender, bootstrap, compare
from mlops_assets.evaluation.intervals import Design

GATES_A_YEAR = 52
GAIN = 0.03
FRAUDS = (40, 120, 400)
BIAS = "size of the bias of average precision, test set: early reports admit rows / by age alone"


@dataclass(frozen=True)
class Sizes:
    """The size of the measurement.

    Attributes:
        histories: Histories of late reports.
        periods: Periods behind each coverage.
        years: Years of weekly gates for equal models.
        gates: Periods behind each share of missed promotions.
    """

    histories: int = 20
    periods: int = 200
    years: int = 6
    gates: int = 100


@dataclass(frozen=True)
class Row:
    """A control's figure.

    Attributes:
        control: Its name.
        figure: What is measured, with its unit.
        off: Without the control.
        on: With it.
        aim: What would be right.
    """

    control: str
    figure: str
    off: str
    on: str
    aim: str


def measure(sizes: Sizes) -> tuple[list[Row], dict[str, list[float]]]:
    """Measure all controls.

    Returns:
        The rows of the table, and the ratio for the report.
    """
    bias, ratios = _maturity(sizes.histories)
    rows = [*bias, *_intervals(sizes.periods), *_promotions(sizes), _unseen()]
    return rows, ratios


def table(rows: list[Row]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| control | figure | off | on | right |", "|---|---|--:|--:|--:|"]
    return "\n".join([*lines, *(f"| {' | '.join(asdict(row).values())} |" for row in rows)])


def _maturity(histories: int) -> tuple[list[Row], dict[str, list[float]]]:
    found = [_late_reports.figures(_late_reports.simulate(seed)) for seed in range(histories)]
    bias = {name: float(np.mean([each[name] - each["true"] for each in found])) for name in found[0]}
    rows = [
        Row(
            "a row counts once it is old enough",
            f"bias of average precision, {shown}",
            f"{bias[f'{name} by report']:+.3f}",
            f"{bias[f'{name} by age']:+.3f}",
            "0",
        )
        for name, shown in (("test set", "test set of a split by time"), ("week", "week after a past day"))
    ]
    return rows, {BIAS: [abs(bias["test set by report"] / bias["test set by age"])]}


def _intervals(periods: int) -> list[Row]:
    rows = []
    for frauds in (75, 300):
        held = coverage(frauds, periods)
        rows += [
            Row(
                "cards are drawn, not rows",
                f"coverage of 95 % intervals of {name}, {frauds} frauds",
                f"{held['rows', name]:.0%}",
                f"{held['cards', name]:.0%}",
                "95 %",
            )
            for name in ("average precision", "the gain over another model")
        ]
    return rows


def coverage(frauds: int, periods: int) -> dict[tuple[str, str], float]:
    """Return the share of periods in which intervals hold the truth, by what is drawn and by figure."""
    random = np.random.default_rng(frauds + 1)  # not those of the tests
    better, worse = (_series.truth(frauds, better=each)["average_precision"] for each in (True, False))
    held: Counter[tuple[str, str]] = Counter()
    for number in range(periods):
        drawn, design = _series.population(random, frauds), Design(60, number)
        by_card = replace(drawn.rows, amounts=None)
        # Without entities and with one day, there is nothing to draw but rows.
        for unit, rows in (("cards", by_card), ("rows", replace(by_card, entities=None, days=0 * by_card.days))):
            contenders = [Contender(scores, _series.THRESHOLD) for scores in (drawn.better, drawn.worse)]
            alone = bootstrap(rows, scores=drawn.better, threshold=_series.THRESHOLD, design=design)
            gain = compare(rows, candidate=contenders[0], baseline=contenders[1], design=design)
            for name, interval, value in (
                ("average precision", alone.intervals["average_precision"], better),
                ("the gain over another model", gain.gains["average_precision"].interval, better - worse),
            ):
                held[unit, name] += interval.low <= value <= interval.high
    return {key: held[key] / periods for key in held}


def _promotions(sizes: Sizes) -> list[Row]:
    gates = GATES_A_YEAR * sizes.years
    rows = []
    for frauds in FRAUDS[:2]:
        ahead = _weekly_gates.share_ahead(gates, frauds, 0.0)
        passed = _weekly_gates.share_promoted(gates, frauds, 0.0)
        rows.append(
            Row(
                "a gain counts once its interval does",
                f"equal models promoted in a year of weekly gates, {frauds} frauds each",
                f"{GATES_A_YEAR * ahead:.1f}",
                f"{GATES_A_YEAR * passed:.1f}",
                "0",
            )
        )
    for frauds in FRAUDS:
        lead = _weekly_gates.lead_for(GAIN, frauds)
        ahead = _weekly_gates.share_ahead(sizes.gates, frauds, lead)
        passed = _weekly_gates.share_promoted(sizes.gates, frauds, lead)
        rows.append(
            Row(
                "the price of it",
                f"candidates at +{GAIN:g} average precision that are missed, {frauds} frauds",
                f"{1 - ahead:.0%}",
                f"{1 - passed:.0%}",
                "0 %",
            )
        )
    return rows


def _unseen() -> Row:
    everything, unseen = _weekly_gates.champion_that_has_seen_a_third()
    return Row(
        "rows that neither model has seen",
        "lead of the candidate that is better, in average precision",
        f"{everything.candidate - everything.champion:+.2f}",
        f"{unseen.candidate - unseen.champion:+.2f}",
        "above 0",
    )


def main() -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    for name, default in asdict(Sizes()).items():
        parser.add_argument(f"--{name}", type=int, default=default)
    sizes = Sizes(**vars(parser.parse_args()))
    rows, ratios = measure(sizes)
    details: dict[str, Any] = {**asdict(sizes), "rows": [asdict(row) for row in rows]}
    report("honesty", ratios=ratios, details=details)
    print(table(rows))


if __name__ == "__main__":
    main()
