"""Following the registry: which versions have the aliases, and their bundles on this machine.

What belongs here: asking MLflow, writing bundles and the file of aliases. What does not: loading bundles into workers
(`watching`), processes (`server`). Only this module of the room leads to MLflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mlops_assets.errors import PlatformError, TrackingError
from mlops_assets.registry.policies import current_policy
from mlops_assets.registry.tuned_run import TunedRun
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, Version, by_alias, by_number
from mlops_assets.serving.bundle import DOCUMENT, golden_rows, write_bundle
from mlops_assets.serving.policy import Policy
from mlops_assets.serving.watching import VERSIONS_FOLDER, read_aliases, write_aliases
from mlops_assets.tracking.category_codes import levels_of

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.scoring import Matrix
    from mlops_assets.tracking.store import Store

_GOLDEN_ROWS = 64

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """Where a model's versions come from.

    Attributes:
        store: The registry.
        registered: The model's full name there.
        contract: The model's contract.
    """

    store: Store
    registered: str
    contract: Contract


def fetch(source: Source, version: Version, folder: Path) -> Path:
    """Write a version's bundle below a folder, unless it is there, and return its own.

    Raises:
        BrokenVersionError: Its files are not what was registered.
        TrackingError: The registry can't be reached, or the version's run says nothing of its threshold.
    """
    place = folder / str(version.number)
    if (place / DOCUMENT).is_file():
        return place
    store = source.store
    with store.answering():
        booster = load_verified(store, version.name, version.number).booster
    levels = levels_of(booster)
    return write_bundle(
        folder,
        booster,
        model=version.name,
        number=version.number,
        run_id=version.run_id,
        created=version.created,
        policy=policy_of(source, version),
        golden=golden_rows(booster, example_rows(source.contract, levels)),
        levels=levels,
    )


def policy_of(source: Source, version: Version) -> Policy:
    """Return the policy of a version that is in force.

    Raises:
        BrokenVersionError: It is not what was written.
        TrackingError: The registry can't be reached, or the version's run says nothing of its threshold.
    """
    store = source.store
    with store.answering():
        if not version.policy:  # registered before there were policies
            threshold = TunedRun.read(store, version.run_id).threshold(production=version.production)
            return Policy(f"v{version.number}-{threshold.rule}", threshold.value, threshold.rule)
        found = current_policy(store, version.name, version.number, version.run_id, version.policy)
    return Policy(found.name, found.threshold.value, found.threshold.rule)


def version_of(source: Source, number: int) -> Version:
    """Return a version by its number.

    Raises:
        TrackingError: There is none, or the registry can't be reached.
    """
    with source.store.answering():
        return by_number(source.store, source.registered, number)


def example_rows(contract: Contract, levels: Mapping[str, Sequence[str]], rows: int = _GOLDEN_ROWS) -> Matrix:
    """Return rows that the contract accepts, the same at each call, none of a customer: float32 [rows, features].

    Args:
        contract: Types and ranges.
        levels: Levels of the categories.
        rows: Number of rows.
    """
    random = np.random.default_rng(20)
    X = np.empty((rows, len(contract.features)), dtype=np.float32)
    for at, name in enumerate(contract.features):
        column = contract.column(name)
        if column.type == "string":
            X[:, at] = random.integers(0, max(1, len(levels.get(name, ()))), rows)
        elif column.type == "boolean":
            X[:, at] = random.integers(0, 2, rows)
        else:
            low = -5.0 if column.min is None else column.min
            high = max(low, 100.0 if column.min is not None else 5.0) if column.max is None else column.max
            X[:, at] = random.uniform(low, high, rows)
        if column.nullable:
            X[:: 1 + at % 7, at] = np.nan
    return X


class Follower:
    """Keeps a model's folder as the registry says.

    Args:
        source: The registry.
        folder: The model's folder.
        aliases: Aliases that are followed beside `champion`.
        pinned: Versions that are served by number.
    """

    def __init__(self, source: Source, folder: Path, aliases: Sequence[str], pinned: Sequence[int]) -> None:
        self._source, self._folder = source, folder
        self._aliases = (CHAMPION, *(alias for alias in aliases if alias and alias != CHAMPION))
        self._pinned = tuple(pinned)
        self._written: tuple[dict[str, int], list[int], dict[int, Policy]] | None = None
        self._policies: dict[tuple[int, str], Policy] = {}
        self._before = read_aliases(folder)

    def look(self) -> dict[str, int]:
        """Ask the registry once; return the version of each alias that has one.

        A version that can't be fetched leaves its alias where it was.

        Raises:
            TrackingError: The registry can't be reached.
        """
        source = self._source
        aliases: dict[str, int] = {}
        for alias in self._aliases:
            with source.store.answering():
                version = by_alias(source.store, source.registered, alias)
            if version is None:
                continue
            if self._fetched(version):
                aliases[alias] = version.number
            elif alias in self._before:
                aliases[alias] = self._before[alias]
        pinned = [number for number in self._pinned if self._fetched(version_of(self._source, number))]
        policies = {number: policy for (number, _), policy in self._policies.items()}
        if self._written != (aliases, pinned, policies):
            documents = {str(number): policy.to_json_dict() for number, policy in policies.items()}
            facts = {"policies": documents, "model": source.registered, "at": time.time()}
            write_aliases(self._folder, aliases, pinned, **facts)
            self._written, self._before = (aliases, pinned, policies), aliases
        return aliases

    def run(self, seconds: float, stop: threading.Event) -> None:
        """Ask again and again until told to stop; a registry that is away changes nothing."""
        while not stop.wait(seconds):
            try:
                self.look()
            except (PlatformError, OSError) as error:  # an OSError for a full disk
                log.warning("the registry is not followed for now: %s", error)

    def _fetched(self, version: Version) -> bool:
        try:
            fetch(self._source, version, self._folder / VERSIONS_FOLDER)
            if (at := (version.number, version.policy)) not in self._policies:
                policy = policy_of(self._source, version)
                kept = {key: old for key, old in self._policies.items() if key[0] != version.number}
                self._policies = {**kept, at: policy}
        except TrackingError as error:
            log.warning("version %d of %s is not served: %s", version.number, version.name, error)
            return False
        return True
