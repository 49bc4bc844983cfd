"""The search space in hyperopt's terms, and back.

What belongs here: translation only. What does not: the bounds (`space`), running a search (`search`).

`fmin` returns the *index* of a chosen option for `hp.choice`; taking that for the value is how the seed project came
to register models it never tuned. Integers are `hp.uniformint` here, and every point goes through `space_eval`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hyperopt import hp, space_eval

from mlops_assets.training.space import WHOLE_NUMBERS, Point, Range, SearchSpace


def to_hyperopt(space: SearchSpace) -> dict[str, Any]:
    """Return the space as hyperopt expressions; a fixed parameter is a constant."""
    expressions: dict[str, Any] = {}
    for item in fields(space):
        bounds: Range = getattr(space, item.name)
        if bounds.low == bounds.high:
            expressions[item.name] = bounds.low
        elif item.name in WHOLE_NUMBERS:
            expressions[item.name] = hp.uniformint(item.name, int(bounds.low), int(bounds.high))
        else:
            expressions[item.name] = hp.uniform(item.name, bounds.low, bounds.high)
    return expressions


def decode(space: SearchSpace, proposed: dict[str, Any]) -> Point:
    """Return the point behind hyperopt's raw values (`fmin`'s result, or a trial's `misc.vals` unpacked)."""
    return to_point(space_eval(to_hyperopt(space), proposed))


def to_point(values: dict[str, Any]) -> Point:
    """Return evaluated values (what an objective receives) as a point."""
    return Point(
        max_depth=int(values["max_depth"]),
        n_estimators=int(values["n_estimators"]),
        learning_rate=float(values["learning_rate"]),
        reg_alpha=float(values["reg_alpha"]),
        base_score=float(values["base_score"]),
    )
