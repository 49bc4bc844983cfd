"""Names in SQL: the one place where they are quoted.

What belongs here: quoting. What does not: which names there are, and what they may be (`spec`, `resources.lakehouse`,
the contract).
"""

from __future__ import annotations


def quoted(*parts: str) -> str:
    """Return a name for Spark's SQL, part by part; a backtick in one is doubled, so that none ends early.

    >>> quoted("main", "fraud", "raw")
    '`main`.`fraud`.`raw`'
    """
    return ".".join("`" + part.replace("`", "``") + "`" for part in parts)
