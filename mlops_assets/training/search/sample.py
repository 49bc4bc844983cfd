"""The training rows of a screening trial: all frauds, and a sample of the genuine rows that stands for all of them.

What belongs here: drawing the sample and weighing it. What does not: which trials use it (`screening`), fitting
(`trial`). Executors import this module, so it imports little.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from mlops_assets.training.search.shared_data import Samples


def sampled(rows: Samples, share: float, seed: int) -> tuple[Samples, npt.NDArray[np.int64], npt.NDArray[np.float32]]:
    """Draw the sample; the same share and seed give the same rows in any process.

    Args:
        rows: All training rows.
        share: Share of the genuine rows to draw; at least one is.
        seed: Seed of the draw.

    Returns:
        The sample in the order of the rows, the places of its rows among all, int64 [sample], and their weights,
        float32 [sample]: 1 for a fraud; those of the genuine rows add up to the number of all genuine rows, so that
        the prior is kept.
    """
    genuine = np.flatnonzero(rows.y == 0)
    count = min(len(genuine), max(1, round(share * len(genuine))))
    drawn = np.random.default_rng(seed).choice(genuine, size=count, replace=False)
    places = np.sort(np.concatenate([np.flatnonzero(rows.y == 1), drawn]))
    y = np.asarray(rows.y[places])
    weights = np.where(y == 1, 1.0, len(genuine) / max(1, count)).astype(np.float32)
    return replace(rows, X=np.asarray(rows.X[places]), y=y, days=np.asarray(rows.days[places])), places, weights
