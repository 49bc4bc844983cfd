"""The evidence that gates against one champion add up to, kept as a tag of each version that was judged.

What belongs here: writing down what one gate adds, and collecting what those before it did. What does not: the evidence
of one difference (`evaluation/evidence`), how much is needed (`gate_rule`).

Evidence multiplies only if it comes from different rows, so each gate notes up to which event time it has used them,
and the next one uses later rows. It is about one champion for as long as it is champion: after a promotion or a
rollback it begins anew.
"""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from mlops_assets.lineage import GATE_EVIDENCE_TAG
from mlops_assets.registry.verified import BrokenVersionError
from mlops_assets.registry.versions import registered

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlops_assets.tracking.store import Store


@dataclass(frozen=True)
class Counted:
    """What one gate adds.

    Attributes:
        champion: Version that was champion.
        reign: Number of the ledger's entry that made it champion; 0 where there is no ledger.
        factor: The gate's e-value.
        until: Event time of the newest row that it was measured on, in seconds.
    """

    champion: int
    reign: int
    factor: float
    until: float

    def to_tag(self) -> str:
        """Return the text of a version's tag."""
        return json.dumps(asdict(self))


@dataclass(frozen=True)
class Evidence:
    """What the gates against the present champion have added up to.

    Attributes:
        champion: Version that is champion.
        reign: As in `Counted`.
        value: Product of the factors, without that of the version in question.
        gates: Number of them.
        until: Event time up to which rows have been used, in seconds.
        mine: What the version in question has added in an earlier run of its gate.
    """

    champion: int
    reign: int
    value: float = 1.0
    gates: int = 0
    until: float = -math.inf
    mine: Counted | None = None


def gathered(store: Store, name: str, champion: int, reign: int, number: int) -> Evidence:
    """Collect the evidence against a champion.

    Args:
        store: The registry.
        name: Name of the registered model.
        champion: Version that is champion.
        reign: Number of the ledger's entry that made it champion; 0 where there is no ledger.
        number: The version in question.

    Raises:
        BrokenVersionError: A version's tag is not what a gate wrote.
    """
    noted = {}
    for found in registered(store, name):
        if text := found.tags.get(GATE_EVIDENCE_TAG):
            noted[int(found.version)] = _counted(text, where=f"{name} version {found.version}")
    same = {at: each for at, each in noted.items() if (each.champion, each.reign) == (champion, reign)}
    mine = same.pop(number, None)
    return _together(Evidence(champion, reign, mine=mine), same.values())


def _together(empty: Evidence, counted: Iterable[Counted]) -> Evidence:
    found = list(counted)
    value = math.prod(each.factor for each in found)
    until = max((each.until for each in found), default=-math.inf)
    return Evidence(empty.champion, empty.reign, value, len(found), until, empty.mine)


def _counted(text: str, where: str) -> Counted:
    try:
        fields = json.loads(text)
        found = Counted(int(fields["champion"]), int(fields["reign"]), float(fields["factor"]), float(fields["until"]))
    except (ValueError, KeyError, TypeError):
        found = None
    if found is None or not (0 < found.factor < math.inf and math.isfinite(found.until)):
        raise BrokenVersionError(
            f"its tag {GATE_EVIDENCE_TAG} is not what a gate writes",
            where=where,
            fix="delete the tag; the evidence of that gate is then not counted",
        )
    return found
