"""The end of a model: a mark in the registry that automation, registration and upkeep read, and no aliases.

What belongs here: setting, reading and removing the mark. What does not: who heeds it (`registration`, `pins`, and the
sensors, schedules and conditions of `automation`), the command (`cli`).

The mark is a tag of the registered model, because the registry is what all sides reach: the launching side, a cluster,
another machine. Tables, runs and versions stay.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mlflow.exceptions import MlflowException

from mlops_assets.errors import RetiredError
from mlops_assets.lineage import RETIRED_TAG
from mlops_assets.registry.versions import CHALLENGER, CHAMPION, by_alias
from mlops_assets.tracking.error_codes import exists_already, is_missing

if TYPE_CHECKING:
    from mlops_assets.tracking.store import Store


@dataclass(frozen=True)
class Retirement:
    """When a model was retired, and which versions had an alias until then.

    Attributes:
        since: Moment, ISO 8601 in UTC.
        aliases: Number of the version, by alias.
    """

    since: str
    aliases: Mapping[str, int] = field(default_factory=dict)


def retirement(store: Store, name: str) -> Retirement | None:
    """Return when a model was retired, or None if it is active or not registered.

    Args:
        store: The registry.
        name: Name of the registered model.

    Raises:
        TrackingError: The registry can't be reached.
    """
    with store.answering():
        try:
            text = store.client.get_registered_model(name).tags.get(RETIRED_TAG)
        except MlflowException as error:
            if is_missing(error):
                return None
            raise
    return Retirement(**json.loads(text)) if text else None


def retire(store: Store, name: str) -> Retirement:
    """Mark a model as retired and remove its aliases; doing it again completes what was interrupted.

    A model that was never registered gets an empty entry in the registry, which holds the mark.

    Raises:
        TrackingError: The registry can't be reached.
    """
    with store.answering():
        held = {alias: by_alias(store, name, alias) for alias in (CHALLENGER, CHAMPION)}
        mark = retirement(store, name)
        if mark is None:
            aliases = {alias: version.number for alias, version in held.items() if version is not None}
            mark = Retirement(datetime.now(UTC).isoformat(timespec="seconds"), aliases)
            _ensure(store, name)
            # First the mark: whatever happens next, nothing starts any more.
            store.client.set_registered_model_tag(name, RETIRED_TAG, json.dumps(asdict(mark)))
        for alias, version in held.items():
            if version is not None:
                store.client.delete_registered_model_alias(name, alias)
    return mark


def bring_back(store: Store, name: str) -> Retirement | None:
    """Give a retired model its aliases back and remove the mark; return the mark, None if there was none.

    Raises:
        TrackingError: The registry can't be reached.
    """
    with store.answering():
        mark = retirement(store, name)
        if mark is None:
            return None
        versions = {int(found.version): found for found in store.client.search_model_versions(f"name = '{name}'")}
        kept = {alias: number for alias, number in mark.aliases.items() if number in versions}
        for alias, number in kept.items():
            store.client.set_registered_model_alias(name, alias, str(number))
        store.client.delete_registered_model_tag(name, RETIRED_TAG)
    return replace(mark, aliases=kept)


def require_active(store: Store, name: str) -> None:
    """Refuse a retired model.

    Raises:
        RetiredError: It is retired.
        TrackingError: The registry can't be reached.
    """
    mark = retirement(store, name)
    if mark is not None:
        raise RetiredError(
            f"the model was retired on {mark.since}",
            where=f"registered model {name}",
            fix="to bring it back, run `mlops retire --undo` with its name as --model",
        )


def _ensure(store: Store, name: str) -> None:
    try:
        store.client.create_registered_model(name)
    except MlflowException as error:
        if not exists_already(error):
            raise
