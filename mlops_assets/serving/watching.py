"""What a worker serves: it follows a file that says which version has which alias, and swaps when that changes.

What belongs here: loading a version aside, verifying it, replacing what is served in one assignment. What does not:
asking the registry (`following`, another process), what a bundle is (`bundle`).

A version that can't be loaded, or that does not show its golden scores, never replaces one that can.
"""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.errors import TrackingError
from mlops_assets.serving.bundle import ServedVersion, load_bundle
from mlops_assets.serving.policy import Policy
from mlops_assets.serving.service import CHAMPION, Versions

if TYPE_CHECKING:
    from mlops_assets.serving.service import ModelService

ALIASES_FILE: Final = "aliases.json"
VERSIONS_FOLDER: Final = "versions"
LOOK_SECONDS: Final = 0.2

log = logging.getLogger(__name__)


class Watcher:
    """Keeps a model's versions as the file of aliases says.

    Args:
        service: The model.
        folder: The model's folder, with the file and the bundles.
    """

    def __init__(self, service: ModelService, folder: Path) -> None:
        self._service, self._folder = service, folder
        self._seen: tuple[int, int] | None = None
        self._loaded: dict[int, ServedVersion] = {}
        self._policies: dict[int, Policy] = {}

    async def run(self) -> None:
        """Look for changes until cancelled."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self) -> None:
        """Load what has changed, off the event loop, and swap."""
        path = self._folder / ALIASES_FILE
        try:
            status = path.stat()
        except FileNotFoundError:
            return
        stamp = (status.st_mtime_ns, status.st_ino)
        if stamp == self._seen:
            return
        try:
            document = json.loads(path.read_text("utf-8"))
            aliases = {str(alias): int(number) for alias, number in document["aliases"].items()}
            pinned = [int(number) for number in document["pinned"]]
            policies = {int(n): Policy.from_json_dict(each) for n, each in document.get("policies", {}).items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            log.warning("%s can't be read; what is served stays", path)
            return
        self._seen, self._policies = stamp, policies
        await self._swap(aliases, pinned)

    async def _swap(self, aliases: dict[str, int], pinned: list[int]) -> None:
        service, now = self._service, self._service.versions
        refused: dict[str, str] = {}
        by_alias: dict[str, ServedVersion] = {}
        for alias, number in aliases.items():
            found = await self._load(number)
            if isinstance(found, ServedVersion):
                by_alias[alias] = found
                continue
            refused[alias] = found
            service.metrics.swapped(service.name, "refused")
            log.warning("%s stays as it is: %s", alias, found)
            if alias in now.aliases:
                by_alias[alias] = now.aliases[alias]
        by_number = {number: found for number in pinned if isinstance(found := await self._load(number), ServedVersion)}
        was, champion, previous = now.aliases.get(CHAMPION), by_alias.get(CHAMPION), now.previous
        if was is not None and champion is not None and was.number != champion.number:
            returned = previous is not None and previous.number == champion.number
            service.metrics.swapped(service.name, "returned" if returned else "swapped")
            previous = was
        service.versions = Versions(by_alias, by_number, previous, refused)
        kept = {version.number for version in (*by_alias.values(), *by_number.values(), previous) if version}
        self._loaded = {number: version for number, version in self._loaded.items() if number in kept}

    async def _load(self, number: int) -> ServedVersion | str:
        """Return a version, or why it is not served."""
        if number not in self._loaded:
            place = self._folder / VERSIONS_FOLDER / str(number)
            try:
                self._loaded[number] = await asyncio.to_thread(load_bundle, place, self._service.contract.features)
            except TrackingError as error:
                return error.what
        loaded = self._loaded[number]
        policy = self._policies.get(number, loaded.policy)
        if policy != loaded.policy:  # a bundle has the policy of the time when it was written
            loaded = self._loaded[number] = replace(loaded, policy=policy)
        return loaded


def write_aliases(folder: Path, aliases: dict[str, int], pinned: list[int], **facts: Any) -> None:
    """Write the file of aliases, at once and as a whole.

    Args:
        folder: The model's folder.
        aliases: Numbers of versions by alias; their bundles are there.
        pinned: Numbers of versions that are served by number.
        facts: What people may want to know beside it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    scratch = folder / f"{ALIASES_FILE}.new"
    scratch.write_text(json.dumps({"aliases": aliases, "pinned": pinned, **facts}), "utf-8")
    scratch.replace(folder / ALIASES_FILE)


def read_aliases(folder: Path) -> dict[str, int]:
    """Return the numbers of versions by alias, as they were last written; empty where nothing was."""
    try:
        document = json.loads((folder / ALIASES_FILE).read_text("utf-8"))
        return {str(alias): int(number) for alias, number in document["aliases"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
