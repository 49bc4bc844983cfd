"""Routing: maps a method and a path to the function that answers.

What belongs here: path templates and the table of routes. What does not: what a route does (`api`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from databricks_loopback.wire import ApiError, Reply, Request

Handler = Callable[[Request, Mapping[str, str]], Reply]

# {v} is an API version: the SDK calls jobs as 2.2 and clusters as 2.1, older clients and the docs use 2.0 and 2.1.
_PARTS = {"v": r"2\.[012]", "path": r"/.*"}


@dataclass(frozen=True)
class Route:
    """One endpoint.

    Attributes:
        method: HTTP verb.
        template: Path with `{name}` for one segment, `{path}` for the rest with its leading slash, `{v}` for a
            version.
        handler: Takes the request and the named parts of the path.
        public: Whether it needs no token (the OAuth endpoints).
    """

    method: str
    template: str
    handler: Handler
    public: bool = False

    def pattern(self) -> re.Pattern[str]:
        """Return the template as a regular expression for the whole path."""
        pieces = re.split(r"\{(\w+)\}", self.template)
        expression = "".join(
            re.escape(piece) if index % 2 == 0 else f"(?P<{piece}>{_PARTS.get(piece, '[^/]+')})"
            for index, piece in enumerate(pieces)
        )
        return re.compile(expression)


class Router:
    """The table of endpoints.

    Args:
        routes: All endpoints; the first match answers.
    """

    def __init__(self, routes: Iterable[Route]) -> None:
        self._routes = [(route.pattern(), route) for route in routes]

    def find(self, method: str, path: str) -> tuple[Route, Mapping[str, str]]:
        """Return the endpoint of a call and the named parts of its path.

        Raises:
            ApiError: 404 ENDPOINT_NOT_FOUND, with the platform's message.
        """
        for pattern, route in self._routes:
            match = pattern.fullmatch(path) if route.method == method else None
            if match:
                return route, match.groupdict()
        raise ApiError(404, "ENDPOINT_NOT_FOUND", f"No API found for '{method} {path.removeprefix('/api')}'")
