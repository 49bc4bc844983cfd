"""Following the registry: which versions have the aliases, and their bundles on this machine.

What belongs here: keeping folders of bundles and the file of aliases as the registry says. What does not: what a
version is (`from_registry`), loading bundles into workers (`watching`), processes (`server`). Only this module and
`from_registry` lead to MLflow.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlops_assets.errors import PlatformError, TrackingError
from mlops_assets.registry.versions import CHAMPION, Version, by_alias
from mlops_assets.serving.bundle import DOCUMENT, write_bundle
from mlops_assets.serving.from_registry import Source, packed, policy_of, version_of
from mlops_assets.serving.watching import VERSIONS_FOLDER, read_aliases, write_aliases

if TYPE_CHECKING:
    from mlops_assets.serving.policy import Policy

log = logging.getLogger(__name__)


def fetch(source: Source, version: Version, folder: Path) -> Path:
    """Write a version's bundle below a folder, unless it is there, and return its own.

    Raises:
        BrokenVersionError: Its files are not what was registered.
        TrackingError: The registry can't be reached, or the version's run says nothing of its threshold.
    """
    place = folder / str(version.number)
    if (place / DOCUMENT).is_file():
        return place
    return write_bundle(folder, packed(source, version))


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
