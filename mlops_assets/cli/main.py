"""`mlops`: the command line of the platform.

What belongs here: which code each command runs, and the exit codes on errors. What does not: the commands' arguments
(`arguments`), what a command does (the other modules of this room), and any slow import: the program answers at once.

Exit codes, the same for every command:
    0: Done. A refused promotion is an ordinary outcome of a run, not a failure.
    1: The run failed, or `doctor` found something that must be fixed.
    2: Usage or settings are wrong; nothing was run.
    130: Interrupted (Ctrl-C).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mlops_assets.cli.arguments import make_parser
from mlops_assets.cli.exit_codes import DONE, FAILED, INTERRUPTED, REFUSED
from mlops_assets.cli.location import OWN, Location, choose, find_location
from mlops_assets.errors import PlatformError, SettingsError
from mlops_assets.processes import keep_files_private
from mlops_assets.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, and return the exit code.

    Args:
        arguments: The command line without the program name; the default is that of the process.
    """
    keep_files_private()
    options = make_parser().parse_args(arguments)
    try:
        return _COMMANDS[options.command](options)
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED
    except Exception as error:
        from mlops_assets.lakehouse.damage import damage_of

        damage = damage_of(error)
        if damage is None:  # a bug
            raise
        sys.stderr.write(f"{damage}\n")
        return FAILED


def _demo(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    chosen = choose(settings, options.model)
    from mlops_assets.cli.demo import run_demo

    if chosen.location.module != OWN:
        return run_demo(settings, chosen, options.trials, ui="mlops ui   (in the project's folder)")
    return run_demo(settings, chosen, options.trials)


def _doctor(options: argparse.Namespace) -> int:
    from mlops_assets.cli.doctor import run_doctor

    try:
        settings = Settings.from_environment()
    except PlatformError as error:  # reported as one of the findings
        return run_doctor(error)
    asked = [name for name in ("first_run", "cost") if getattr(options, name)]
    return run_doctor(settings, _location(settings, options.model), asked)


def _ui(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    location = _location(settings, options.model)
    from mlops_assets.instance.web_server import serve_ui

    return serve_ui(
        settings, options.port, module=None if location.module == OWN else location.module, path=location.folder
    )


def _serve(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    serving = settings.serving(workers=options.workers, port=options.port)
    location = find_location(Path.cwd())
    specs = location.models(settings) if options.model is None else [choose(settings, options.model, location).spec]
    _require_serving()
    from mlops_assets.cli.serve import run_serve

    return run_serve(settings, specs, serving)


def _score(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    _require_serving()
    from mlops_assets.cli.score import run_score

    return run_score(settings, spec, options.file, options.output)


def _require_serving() -> None:
    missing = [
        name for name in ("confluent_kafka", "msgspec", "prometheus_client", "uvicorn") if find_spec(name) is None
    ]
    if missing:
        raise SettingsError(
            f"packages are missing: {', '.join(missing)}", where=sys.executable, fix="pip install mlops_assets[serving]"
        )


def _models(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    location = find_location(Path.cwd())
    specs = location.models(settings) if options.model is None else [choose(settings, options.model, location).spec]
    from mlops_assets.cli.models import run_models

    return run_models(settings, specs)


def _verify(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    location = find_location(Path.cwd())
    specs = location.models(settings) if options.model is None else [choose(settings, options.model, location).spec]
    from mlops_assets.cli.verify import run_verify

    return run_verify(settings, specs)


def _retire(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    from mlops_assets.cli.models import run_retire

    return run_retire(settings, spec, undo=options.undo)


def _champion(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    from mlops_assets.cli.champions import run_champion

    return run_champion(settings, spec, options.at)


def _rollback(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    from mlops_assets.cli.champions import run_rollback

    return run_rollback(settings, spec, options.to, options.reason)


def _approve(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    from mlops_assets.cli.champions import run_approve

    return run_approve(settings, spec, options.version, options.reason)


def _policy(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    from mlops_assets.cli.policies import run_policy

    return run_policy(
        settings,
        spec,
        version=options.version,
        rule=options.rule,
        alert_cost=options.alert_cost,
        alerts_per_day=options.alerts_per_day,
        reason=options.reason,
    )


def _upkeep(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    chosen = choose(settings, options.model)
    from mlops_assets.cli.tables import run_upkeep

    return run_upkeep(settings, chosen)


def _replay(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    chosen = choose(settings, options.model)
    from mlops_assets.cli.tables import run_replay

    return run_replay(settings, chosen)


def _revert(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    chosen = choose(settings, options.model)
    from mlops_assets.cli.tables import list_batches, run_revert

    return run_revert(settings, chosen, options.batch) if options.batch else list_batches(settings, chosen)


def _repair(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    chosen = choose(settings, options.model)
    from mlops_assets.cli.tables import run_repair

    return run_repair(settings, chosen, drop=options.drop)


def _erase(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    spec = choose(settings, options.model).spec
    _require_serving()
    from mlops_assets.cli.erase import run_erase

    return run_erase(settings, spec, options.entity, confirmed=options.yes)


def _instance(options: argparse.Namespace) -> int:
    settings = Settings.from_environment()
    _location(settings, options.model)
    from mlops_assets.instance.home import prepare_for

    sys.stdout.write(f"{prepare_for(settings)}\n")
    return DONE


def _location(settings: Settings, model: str | None) -> Location:
    """Return the code location for a command that is not about one model; the model, if any is named, must be in it."""
    location = find_location(Path.cwd())
    if model is not None:
        choose(settings, model, location)
    return location


_COMMANDS: Final[Mapping[str, Callable[[argparse.Namespace], int]]] = {
    "demo": _demo,
    "doctor": _doctor,
    "ui": _ui,
    "serve": _serve,
    "score": _score,
    "models": _models,
    "retire": _retire,
    "champion": _champion,
    "rollback": _rollback,
    "approve": _approve,
    "policy": _policy,
    "verify": _verify,
    "upkeep": _upkeep,
    "replay": _replay,
    "revert": _revert,
    "repair": _repair,
    "erase": _erase,
    "instance": _instance,
}


if __name__ == "__main__":
    sys.exit(main())
