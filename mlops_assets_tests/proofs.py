"""The parts of the long proofs, as `.ci/proof-parts` names them.

What belongs here: reading the table, and what is wrong with it. What does not: running a part (`scripts/proof.sh`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

LONGEST_MINUTES = 20
COLLECTED = pytest.StashKey[list[Path]]()  # the files of all collected proofs, also of those that are not run


@dataclass(frozen=True)
class Part:
    """A part of the long proofs.

    Attributes:
        minutes: How long it takes on two cores.
        paths: Files and folders of its tests, from the checkout.
        processes: How many processes share its tests; 0 runs them in pytest's own.
    """

    minutes: int
    paths: tuple[Path, ...]
    processes: int = 0


def read_parts(table: Path) -> dict[str, Part]:
    """Return the parts by their names, in the order in which they run."""
    parts: dict[str, Part] = {}
    for line in table.read_text("utf-8").splitlines():
        if line.startswith("#") or not line.strip():
            continue
        if line.startswith(" "):
            name, part = parts.popitem()
            parts[name] = replace(part, paths=(*part.paths, Path(line.strip())))
        else:
            name, minutes, *processes = line.split()
            parts[name] = Part(int(minutes), (), *map(int, processes))
    return parts


def problems(parts: Mapping[str, Part], proofs: Iterable[Path], checkout: Path) -> list[str]:
    """Return what is wrong: a proof in no part or in several, a path that is not there, a part that takes too long."""
    found = [f"{name} takes {part.minutes} minutes" for name, part in parts.items() if part.minutes > LONGEST_MINUTES]
    found += [
        f"{name} names {path}, which is not there"
        for name, part in parts.items()
        for path in part.paths
        if not (checkout / path).exists()
    ]
    for proof in sorted(set(proofs)):
        homes = [name for name, part in parts.items() for path in part.paths if proof.is_relative_to(path)]
        if len(homes) != 1:
            found.append(f"{proof} belongs to {', '.join(homes) or 'no part'}")
    return found
