"""Hashes of entities: what stands in the log for a customer or card.

What belongs here: the hash, its salts, and which side of a canary an entity is on. What does not: the log.

A salt is derived from a secret and a period of days, so nothing but the secret is kept. To delete an entity's rows, the
hashes of all periods are computed again (`hashes_over`).
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path
from typing import Final

_DAY: Final = 86_400.0
_FILE: Final = "entity.salt"


class EntityHash:
    """Hashes of entities under a secret.

    Args:
        secret: The secret.
        days: Length of a period; 0 for a single one.
    """

    def __init__(self, secret: bytes, days: int) -> None:
        self._secret, self._days = secret, days
        self._period, self._salt = -1, b""

    def __call__(self, entity: object, at: float) -> str:
        """Return the hash of an entity at a time in seconds since 1970: 32 hexadecimal digits; empty for no entity."""
        if entity is None:
            return ""
        period = self._period_of(at)
        if period != self._period:
            self._period, self._salt = period, self._salt_of(period)
        return hashlib.blake2b(str(entity).encode(), key=self._salt, digest_size=16).hexdigest()

    def hashes_over(self, entity: object, start: float, end: float) -> list[str]:
        """Return every hash that an entity had between two times."""
        periods = range(self._period_of(start), self._period_of(end) + 1)
        return [
            hashlib.blake2b(str(entity).encode(), key=self._salt_of(period), digest_size=16).hexdigest()
            for period in periods
        ]

    def share(self, entity: object) -> float:
        """Return a number in [0, 1) that is the same for an entity at all times."""
        digest = hashlib.blake2b(str(entity).encode(), key=self._secret[:64], digest_size=8).digest()
        return int.from_bytes(digest) / 2**64

    def _period_of(self, at: float) -> int:
        return int(at // (self._days * _DAY)) if self._days else 0

    def _salt_of(self, period: int) -> bytes:
        return hmac.new(self._secret, str(period).encode(), "sha256").digest()


def secret_of(folder: Path, given: str) -> bytes:
    """Return the secret: the one that is given, or one that is made once and kept where only the owner can read it.

    Args:
        folder: Where it is kept.
        given: The secret of the settings; empty for none.
    """
    if given:
        return hashlib.sha256(given.encode()).digest()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / _FILE
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(secrets.token_bytes(32))
    except FileExistsError:
        pass
    return path.read_bytes()
