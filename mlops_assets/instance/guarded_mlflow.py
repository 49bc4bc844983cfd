"""`mlflow server` behind the guard.

What belongs here: putting the guard between MLflow's command and its app. What does not: the guard's rules (`guard`),
which server is started where (`mlflow_ui`).

MLflow checks Host and Origin itself (since 3.5), and has no login: every user of this machine could read and change the
store. `mlflow server` takes another app only from a package's entry points, so its function that names the app to
uvicorn is replaced.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from mlops_assets.instance.guard import Guard

_APP: Final = "mlops_assets.instance.guarded_mlflow:make_app"
_THEIRS: Final = "mlflow.server.fastapi_app:app"


def run_server() -> None:
    """Run `mlflow` with the arguments of this process, with a guard before the app of its server."""
    server: Any = import_module("mlflow.server")
    build = server._build_uvicorn_command  # noqa: SLF001 - there is no other place for it

    def build_guarded(*given: Any) -> list[str]:
        words: list[str] = build(*given)
        if words[-1] != _THEIRS:
            raise RuntimeError(f"this version of MLflow serves {words[-1]} instead of {_THEIRS}")
        return [*words[:-1], "--factory", _APP]

    server._build_uvicorn_command = build_guarded  # noqa: SLF001
    import_module("mlflow.cli").cli()


def make_app() -> Guard:
    """Return MLflow's app behind the guard."""
    app: Any = import_module("mlflow.server.fastapi_app").app
    # Artifacts are no JSON.
    return Guard(app, json_only=False)


if __name__ == "__main__":
    run_server()
