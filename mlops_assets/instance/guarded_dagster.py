"""`dagster dev` whose web server stands behind the guard.

What belongs here: putting the guard between Dagster's two programs and their app. What does not: the guard's rules
(`guard`), how `dagster dev` is called (`web_server`).

Dagster offers no place for an ASGI middleware: `dagster dev` starts `python -m dagster_webserver`, and that makes its
app itself. So this module is both programs, each with one function of Dagster's replaced. Should a version of Dagster
no longer call them, nothing is served.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import Any, Final

from mlops_assets.deployment import Deployment
from mlops_assets.instance.guard import Guard

_THIS: Final = "mlops_assets.instance.guarded_dagster"
_THEIRS: Final = "dagster_webserver"


def run_dev() -> None:
    """Run `dagster dev` with the arguments of this process, with this module as its web server."""
    dev: Any = import_module("dagster._cli.dev")
    start, started = dev.open_ipc_subprocess, set()

    def start_guarded(parts: list[str], **options: Any) -> Any:
        started.update(parts)
        if _THEIRS not in started:
            raise RuntimeError(f"this version of Dagster starts its web server otherwise than by -m {_THEIRS}")
        return start([_THIS if part == _THEIRS else part for part in parts], **options)

    dev.open_ipc_subprocess = start_guarded
    import_module("dagster._cli").main()


def run_web_server() -> None:
    """Run `dagster-webserver` with the arguments of this process, behind the guard."""
    cli: Any = import_module("dagster_webserver.cli")
    make, address = cli.create_app_from_workspace_process_context, Deployment.from_environment().dagster_url

    def make_guarded(*given: Any, **options: Any) -> Guard:
        return Guard(make(*given, **options), address=address, graphql="/graphql")

    cli.create_app_from_workspace_process_context = make_guarded
    cli.main()


if __name__ == "__main__":
    run_dev() if sys.argv[1:2] == ["dev"] else run_web_server()
