"""How it shows that a source has something new, by kind of source and place.

What belongs here: what can be seen of a place without reading it. What does not: looking there (`listing`, `delta`),
what is started then (automation).
"""

from __future__ import annotations

from enum import Enum
from typing import Final

from mlops_assets.data.sources.locations import is_web, split_list

# The property of a Delta table whose commits say which rows they added, changed and deleted.
CHANGE_DATA_FEED: Final = "delta.enableChangeDataFeed"


class Arrivals(Enum):
    """How it shows that there is something new."""

    NEVER = "the source never changes"
    UNSEEN = "only reading it again tells"
    FILES = "files appear"
    VERSIONS = "the table gets a newer version"


def arrivals_of_files(location: str) -> Arrivals:
    """Return how new files of a location show; the web lists no folders, so nothing that arrives there is seen.

    Args:
        location: A file, a folder, a glob or a comma-separated list.
    """
    return Arrivals.UNSEEN if all(map(is_web, split_list(location))) else Arrivals.FILES
