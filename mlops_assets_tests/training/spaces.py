"""Spaces and points of the seed preset in one line, for tests.

What belongs here: that. What does not: what a space may hold (`test_space`).
"""

from __future__ import annotations

from dataclasses import replace

from mlops_assets.training.space import PRESETS, Point, SearchSpace


def seed_space(**bounds: tuple[float, float]) -> SearchSpace:
    """Return the preset `seed` with other bounds for some parameters."""
    seed = PRESETS["seed"]
    return SearchSpace(
        {**seed, **{name: replace(seed[name], low=low, high=high) for name, (low, high) in bounds.items()}}
    )


def fixed_space(point: Point) -> SearchSpace:
    """Return the space that holds one point."""
    return seed_space(**{name: (value, value) for name, value in point.items()})


def seed_point(
    max_depth: int, n_estimators: int, learning_rate: float, reg_alpha: float = 0.05, base_score: float = 0.03
) -> Point:
    """Return a point of the preset `seed`."""
    return {
        "max_depth": max_depth,
        "n_estimators": n_estimators,
        "learning_rate": learning_rate,
        "reg_alpha": reg_alpha,
        "base_score": base_score,
    }
