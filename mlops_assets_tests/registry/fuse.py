"""A process that ends before or after its nth write to a registry.

What belongs here: counting writes and ending at one of them. What does not: what is written, and what must hold then.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


class KilledError(BaseException):
    """The process ends here."""


@dataclass
class Fuse:
    """Ends the process before or after its nth write; never for a number below 0."""

    left: int = -1
    after: bool = False
    writes: int = 0

    def through(self, write: Any, *given: Any, **named: Any) -> Any:
        self.writes += 1
        self.left -= 1
        if self.left == 0 and not self.after:
            raise KilledError
        answer = write(*given, **named)
        if self.left == 0:
            raise KilledError
        return answer


class Client:
    """A client whose writes go through a fuse."""

    def __init__(self, client: Any, fuse: Fuse) -> None:
        self._client, self._fuse = client, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not name.startswith(("create_", "delete_", "log_", "set_", "update_")):
            return found
        return lambda *given, **named: self._fuse.through(found, *given, **named)
