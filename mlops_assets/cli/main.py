"""`mlops`: the command line of the platform.

What belongs here: the commands, their arguments, and their exit codes on errors. What does not: what a command does
(the other modules of this room), and any slow import: `mlops --help` answers at once.

Exit codes, the same for every command:
    0: Done. A refused promotion is an ordinary outcome of a run, not a failure.
    1: The run failed, or `doctor` found something that must be fixed.
    2: Usage or settings are wrong; nothing was run.
    130: Interrupted (Ctrl-C).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from typing import Final

from mlops_assets import __version__
from mlops_assets.cli.exit_codes import DONE, FAILED, INTERRUPTED, REFUSED
from mlops_assets.errors import PlatformError, SettingsError
from mlops_assets.settings import Settings

_EXIT_CODES: Final = f"""\
exit codes:
  {DONE}    done; it is not a failure if the promotion gate keeps a model as challenger
  {FAILED}    the run failed, or doctor found something that must be fixed
  {REFUSED}    usage or settings are wrong; nothing was run
  {INTERRUPTED}  interrupted (Ctrl-C)
"""
_ABOUT: Final = """\
Data and model assets for tabular fraud models.

Settings come from environment variables MLOPS_<NAME>; without any, everything runs on this machine and writes to the
folder .mlops.
"""
_EXAMPLES: Final = """\
examples:
  mlops demo                                  run the whole chain once, on synthetic data
  MLOPS_SOURCE=payments.csv mlops demo        run it on a file of your own
  mlops doctor                                check the installation and show what to fix
  mlops COMMAND --help                        more about one command
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse the command line, run the command, and return the exit code.

    Args:
        arguments: The command line without the program name; the default is that of the process.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
    except PlatformError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    except KeyboardInterrupt:
        return INTERRUPTED


def require_model(settings: Settings, model: str | None) -> Settings:
    """Return the settings if they define the requested model.

    Args:
        settings: The settings from the environment.
        model: Name of the model in the registry, or of its database; None means the one that the settings define.

    Raises:
        SettingsError: The settings define another model.
    """
    if model is None:
        return settings
    spec = settings.spec()
    configured = spec.registered_model
    if model not in (configured, spec.database):
        raise SettingsError(
            f"there is no model {model!r}; the settings define one model, {configured}",
            where="--model",
            fix=f"use --model {configured}, leave it out, or change the settings that name the model (MLOPS_CONTRACT, "
            "MLOPS_SOURCE, MLOPS_MODEL_NAME)",
        )
    return settings


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mlops",
        description=_ABOUT,
        epilog=f"{_EXAMPLES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlops_assets {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def add(
        name: str, command: Callable[[argparse.Namespace], int], summary: str, about: str, *examples: str
    ) -> argparse.ArgumentParser:
        shown = "\n".join(f"  {example}" for example in examples)
        added = commands.add_parser(
            name,
            help=summary,
            description=about,
            epilog=f"examples:\n{shown}\n\n{_EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.add_argument("--model", metavar="NAME", help="the model, if there are several (default: the only one)")
        added.set_defaults(command=command)
        return added

    demo = add(
        "demo",
        _demo,
        "run the whole chain once and show the result",
        "Load, split, tune, evaluate and register, with progress; then a summary, which is also written to\n"
        "demo.json in MLOPS_HOME.",
        "mlops demo --trials 10",
        "MLOPS_CONTRACT=handbook MLOPS_SOURCE=day1.parquet mlops demo",
    )
    demo.add_argument("--trials", type=_positive, metavar="N", help="trials of the search (default: tuned_model's)")
    add(
        "doctor",
        _doctor,
        "check what a run needs, one line each",
        "Print one line for each thing that a run needs: ok, warning or error, and what to do about it.\n"
        "With MLOPS_TARGET=databricks this also checks the workspace, without starting a cluster.",
        "mlops doctor",
        "MLOPS_TARGET=databricks MLOPS_DATABRICKS_PROFILE=staging mlops doctor",
    )
    ui = add(
        "ui",
        _ui,
        "serve Dagster's web UI on this machine",
        "Serve Dagster's web UI on 127.0.0.1, with the daemon that runs sensors and schedules, until Ctrl-C.",
        "mlops ui --port 3001",
        "MLOPS_AUTOMATION=on MLOPS_SOURCE=landing mlops ui",
    )
    ui.add_argument("--port", type=_positive, default=3000, metavar="N", help="port (default: %(default)s)")
    add(
        "upkeep",
        _upkeep,
        "compact the tables and delete old files",
        "Run the job `upkeep`: compact the small files of each table, and delete files that no kept version needs.\n"
        "Versions that registered models are pinned to stay readable.",
        "mlops upkeep",
    )
    add(
        "replay",
        _replay,
        "retry the rows in quarantine",
        "Run the job `replay_quarantine`: check the rows in quarantine against the current contract, and move those\n"
        "that pass into the raw table.",
        "MLOPS_CONTRACT=fixed.yaml mlops replay",
    )
    add(
        "instance",
        _instance,
        "prepare Dagster's folder and print its path",
        "Create the folder of the Dagster instance if it does not exist, and print its path, for Dagster's own "
        "commands.",
        "DAGSTER_HOME=$(mlops instance) dagster dev -w workspace.yaml",
    )
    return parser


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


_positive.__name__ = "positive number"  # what argparse calls it in its errors


def _demo(options: argparse.Namespace) -> int:
    settings = require_model(Settings.from_environment(), options.model)
    from mlops_assets.cli.demo import run_demo

    return run_demo(settings, options.trials)


def _doctor(options: argparse.Namespace) -> int:
    from mlops_assets.cli.doctor import run_doctor

    try:
        settings = Settings.from_environment()
    except PlatformError as error:  # reported as one of the findings
        return run_doctor(error)
    return run_doctor(require_model(settings, options.model))


def _ui(options: argparse.Namespace) -> int:
    settings = require_model(Settings.from_environment(), options.model)
    from mlops_assets.instance.web_server import serve_ui

    return serve_ui(settings, options.port)


def _upkeep(options: argparse.Namespace) -> int:
    settings = require_model(Settings.from_environment(), options.model)
    from mlops_assets.cli.tables import run_upkeep

    return run_upkeep(settings)


def _replay(options: argparse.Namespace) -> int:
    settings = require_model(Settings.from_environment(), options.model)
    from mlops_assets.cli.tables import run_replay

    return run_replay(settings)


def _instance(options: argparse.Namespace) -> int:
    settings = require_model(Settings.from_environment(), options.model)
    from mlops_assets.instance.home import prepare_for

    sys.stdout.write(f"{prepare_for(settings)}\n")
    return DONE


if __name__ == "__main__":
    sys.exit(main())
