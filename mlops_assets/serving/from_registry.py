"""Versions of the registry as bundles: verified, with the policy in force and golden rows.

What belongs here: asking MLflow for a version, and packing it. What does not: keeping up with aliases (`following`),
folders of bundles and judging them (`bundle`). Nothing here needs what only a server needs, so that steps on a cluster
can import it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from mlops_assets.errors import TrackingError
from mlops_assets.registry.policies import current_policy
from mlops_assets.registry.tuned_run import TunedRun
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, Version, by_alias, by_number
from mlops_assets.serving.bundle import Bundle, golden_rows, pack
from mlops_assets.serving.policy import Policy
from mlops_assets.tracking.category_codes import levels_of

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.scoring import Matrix
    from mlops_assets.tracking.store import Store

_GOLDEN_ROWS: Final = 64


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


def champion_of(source: Source) -> Version:
    """Return the version that is champion.

    Raises:
        TrackingError: There is none, or the registry can't be reached.
    """
    with source.store.answering():
        version = by_alias(source.store, source.registered, CHAMPION)
    if version is None:
        raise TrackingError(
            "the model has no champion",
            where=f"registered model {source.registered}",
            fix="train one (`make demo`), or set the alias `champion`",
        )
    return version


def packed(source: Source, version: Version) -> Bundle:
    """Return a version as a bundle.

    Raises:
        BrokenVersionError: Its files are not what was registered.
        TrackingError: The registry can't be reached, or the version's run says nothing of its threshold.
    """
    store = source.store
    with store.answering():
        booster = load_verified(store, version.name, version.number).booster
    levels = levels_of(booster)
    return pack(
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
