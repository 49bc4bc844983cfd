"""Pictures of an explanation: real PNGs of bounded size, on good and on degenerate input."""

from __future__ import annotations

import dataclasses
import io
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mlops_assets.evaluation.explanations import Contributions, Explanation
from mlops_assets.evaluation.plots import explanations as explain_plots
from mlops_assets.evaluation.plots.style import BLUE, ORANGE

MAX_BYTES = 60_000


@pytest.fixture(autouse=True)
def _layout_warnings_are_failures() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def made(rows: int = 2_000, features: int = 29, *, scale: float = 1.0) -> Explanation:
    random = np.random.default_rng(3)
    names = tuple(f"terminal_id_risk_{number}day_window" for number in range(features))
    X = random.gamma(1, 80, (rows, features)).astype(np.float32)
    values = (scale * np.log(X / 80) / (1 + np.arange(features))).astype(np.float32)
    X[::9, 1:] = np.nan
    mean = np.abs(values).mean(axis=0)
    ranked = {names[at]: float(mean[at]) for at in np.argsort(-mean, kind="stable")}
    return Explanation(np.arange(rows), X, Contributions(names, values, -6.0), ranked, 10 * rows, rows // 4)


def opened(png: bytes) -> Any:
    image = Image.open(io.BytesIO(png))
    assert image.format == "PNG"
    assert image.size == (960, 600)
    assert len(png) < MAX_BYTES
    return np.asarray(image.convert("RGB")).astype(int)


def pixels(png: bytes, colour: str) -> int:
    wanted = np.array([int(colour[at : at + 2], 16) for at in (1, 3, 5)])
    return int((np.abs(opened(png) - wanted).max(axis=2) < 25).sum())


@pytest.mark.parametrize("draw", [explain_plots.importance, explain_plots.summary])
@pytest.mark.parametrize(
    "explanation",
    [made(), made(rows=1), made(features=1), made(scale=0.0), made(scale=1e-6), made(rows=3, features=60)],
    ids=["realistic", "one row", "one feature", "nothing contributes", "tiny", "many features"],
)
def test_every_explanation_can_be_drawn(draw: Any, explanation: Explanation):
    opened(draw(explanation))


def test_low_and_high_values_have_colours_of_their_own():
    picture = explain_plots.summary(made())
    constant = dataclasses.replace(made(), X=np.ones((2_000, 29), dtype=np.float32))

    assert pixels(picture, BLUE) > 200
    assert pixels(picture, ORANGE) > 200
    assert pixels(explain_plots.summary(constant), BLUE) < 20


def test_high_values_that_speak_for_fraud_are_drawn_on_the_right():
    image = opened(explain_plots.summary(made(features=1)))
    orange = np.array([int(ORANGE[at : at + 2], 16) for at in (1, 3, 5)])
    blue = np.array([int(BLUE[at : at + 2], 16) for at in (1, 3, 5)])

    def middle(colour: Any) -> float:
        return float(np.nonzero(np.abs(image - colour).max(axis=2) < 25)[1].mean())

    assert middle(orange) > middle(blue) + 100


def test_pictures_repeat_to_the_byte():
    assert explain_plots.summary(made()) == explain_plots.summary(made())
    assert explain_plots.importance(made()) == explain_plots.importance(made())
