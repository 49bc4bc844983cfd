"""How strongly a difference speaks for the candidate, as an e-value, which multiplies from comparison to comparison.

What belongs here: the e-value of one difference. What does not: the difference itself (`bootstrap`), which comparisons
add up and how much evidence is enough (`registry`).

An e-value is at most 1 on average where the candidate is no better. So a product of e-values, each from rows that no
earlier one has used, ever reaches 40 with a chance of at most 1 / 40, however often one looks and whenever one stops
(Ville 1939; Ramdas, Gruenwald, Vovk and Shafer, "Game-theoretic statistics and safe anytime-valid inference",
Statistical Science 2023). Here it is a likelihood ratio: a lead of about `_LEAD` standard errors, of unknown size,
against none.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING, Final

from mlops_assets.evaluation.intervals import below

if TYPE_CHECKING:
    from mlops_assets.evaluation.bootstrap import Gain

# The lead is taken to be |N(0, _LEAD^2)| standard errors. In a simulation, between 1 and 2 the number of weeks until a
# true lead of one or two standard errors is found hardly differs.
_LEAD: Final = 1.5
# Half of what has been gathered is staked in each comparison, so one bad candidate costs half of it at most.
_STAKE: Final = 0.5
_LARGEST: Final = 8.0  # standard deviations; beyond, a normal distribution says nothing


def e_value(gain: Gain, at_least: float) -> float:
    """Return the evidence of one difference, between `1 - _STAKE` and about 1e9; 1 is none.

    Args:
        gain: The difference and its standard error.
        at_least: Only a gain above this speaks for the candidate.
    """
    lead = gain.interval.estimate - at_least
    if gain.error <= 0:  # two models that do not differ
        return 1.0
    normal = NormalDist()
    chance = below(lead / gain.error, gain.freedom)
    edge = normal.cdf(-_LARGEST)
    z = normal.inv_cdf(min(max(chance, edge), 1 - 1e-15))
    width = 1 + _LEAD**2
    ratio = 2 / math.sqrt(width) * math.exp(z**2 * _LEAD**2 / (2 * width)) * normal.cdf(z * _LEAD / math.sqrt(width))
    return 1 - _STAKE + _STAKE * ratio
