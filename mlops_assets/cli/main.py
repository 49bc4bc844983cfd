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
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from mlops_assets import __version__
from mlops_assets.cli.exit_codes import DONE, FAILED, INTERRUPTED, REFUSED
from mlops_assets.cli.location import OWN, Location, choose, find_location
from mlops_assets.errors import PlatformError, SettingsError
from mlops_assets.processes import keep_files_private
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
    keep_files_private()
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = options.command
    try:
        return command(options)
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
        name: str,
        command: Callable[[argparse.Namespace], int],
        summary: str,
        about: str,
        *examples: str,
        model_required: bool = False,
    ) -> argparse.ArgumentParser:
        shown = "\n".join(f"  {example}" for example in examples)
        added = commands.add_parser(
            name,
            help=summary,
            description=about,
            epilog=f"examples:\n{shown}\n\n{_EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        added.add_argument(
            "--model",
            metavar="NAME",
            required=model_required,
            help="the model, if there are several (default: the only one)",
        )
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
        "cd examples/own_project && mlops demo --model cards",
    )
    demo.add_argument("--trials", type=_positive, metavar="N", help="trials of the search (default: tuned_model's)")
    doctor = add(
        "doctor",
        _doctor,
        "check what a run needs, one line each",
        "Print one line for each thing that a run needs: ok, warning or error, and what to do about it.\n"
        "With MLOPS_TARGET=databricks this also checks the workspace, without starting a cluster.\n"
        "Each of the options starts one small cluster, of the class loader.",
        "mlops doctor",
        "MLOPS_TARGET=databricks MLOPS_DATABRICKS_PROFILE=staging mlops doctor",
    )
    doctor.add_argument("--first-run", action="store_true", help="also try what only a cluster can show, and report it")
    doctor.add_argument("--cost", action="store_true", help="also show what each asset and run has cost")
    ui = add(
        "ui",
        _ui,
        "serve Dagster's web UI on this machine",
        "Serve Dagster's web UI on 127.0.0.1, with the daemon that runs sensors and schedules, until Ctrl-C.\n"
        "If MLflow's store is the embedded one, its UI is served beside, where MLOPS_MLFLOW_UI says.",
        "mlops ui --port 3001",
        "MLOPS_AUTOMATION=on MLOPS_SOURCE=landing mlops ui",
    )
    ui.add_argument("--port", type=_positive, default=3000, metavar="N", help="port (default: %(default)s)")
    served = add(
        "serve",
        _serve,
        "answer with the champion over HTTP",
        "Serve the champion of the registry on 127.0.0.1, follow its aliases, and log every prediction, until Ctrl-C.\n"
        "A line to try is printed. Without --model all models of the code location are served, the first one at the\n"
        "addresses without a name. MLOPS_SERVING_<NAME> has the other settings.",
        "mlops serve",
        "mlops serve --workers 2 --port 8500",
    )
    served.add_argument("--workers", type=_positive, metavar="N", help="processes that answer (default: 1)")
    served.add_argument("--port", type=_positive, metavar="N", help="port (default: 8400)")
    scored = add(
        "score",
        _score,
        "score a file with the champion, without a server",
        "Score the rows of a CSV or Parquet file with the champion, without a server and without Spark. The file\n"
        "needs the contract's features; a row that breaks the contract gets no score, and the names of what is wrong.",
        "mlops score payments.csv --output scores.parquet",
    )
    scored.add_argument("file", type=Path, metavar="FILE", help="the rows")
    scored.add_argument(
        "--output", type=Path, metavar="FILE", help="CSV or Parquet file to write (default: CSV to standard output)"
    )
    add(
        "models",
        _models,
        "list the models: champion, age, last load",
        "Print one line for each model of the code location: its champion and that version's age, and when its raw\n"
        "table was last loaded. In the folder of a project for dg, these are the project's models.",
        "mlops models",
        "cd examples/own_project && mlops models",
    )
    retire = add(
        "retire",
        _retire,
        "end a model without deleting anything",
        "Remove the aliases of a model, stop its sensors, schedules and conditions, refuse to train or register it,\n"
        "and keep no old versions of its tables for it. Tables, runs and registered versions stay. Running it again\n"
        "is harmless; --undo brings the model back, with its aliases.",
        "mlops retire --model cards",
        "mlops retire --undo --model cards",
        model_required=True,
    )
    retire.add_argument("--undo", action="store_true", help="bring the model back")
    champion = add(
        "champion",
        _champion,
        "show who is and was champion, and why",
        "Print each change of the alias `champion`, oldest first: when, which version, what happened, why and who.\n"
        "With --at only the one that held at that moment. Changes nothing.",
        "mlops champion",
        "mlops champion --at 2026-11-01T00:00Z",
    )
    champion.add_argument("--at", type=_moment, metavar="TIME", help="a moment, ISO 8601; without a time zone in UTC")
    rollback = add(
        "rollback",
        _rollback,
        "make an older version champion again",
        "Verify that the version before the champion, or the one that --to names, is what was registered and scores\n"
        "as it did, and make it champion. The gate does not promote the version that it replaces again.",
        "mlops rollback",
        'mlops rollback --to 4 --reason "too many alerts since Monday"',
    )
    rollback.add_argument("--to", type=_positive, metavar="N", help="the version (default: the champion before)")
    rollback.add_argument("--reason", default="by hand", metavar="TEXT", help="kept in the ledger")
    approving = add(
        "approve",
        _approve,
        "approve a version that passed the gate",
        "Approve the challenger that waits for approval (option `approvals` of the gate). With the last approval that\n"
        "it needs it becomes champion. Whoever trained it can't approve it.",
        "mlops approve 7 --reason 'looked at the worst misses'",
    )
    approving.add_argument("version", type=_positive, metavar="N", help="the version")
    approving.add_argument("--reason", default="by hand", metavar="TEXT", help="kept in the ledger")
    policy = add(
        "policy",
        _policy,
        "show or change what follows from a score",
        "Print the policy of the champion (threshold, rule, cost of an alert, alert budget), and what other budgets\n"
        "would have done on rows that the model was not fitted on. With an option of the rule, give it another policy\n"
        "without training; servers follow within seconds.",
        "mlops policy",
        "mlops policy --rule alert_budget --alerts-per-day 50 --reason 'two persons less'",
    )
    policy.add_argument("--version", type=_positive, metavar="N", help="the version (default: the champion)")
    policy.add_argument("--rule", choices=("cost", "alert_budget"), help="what the threshold is chosen by")
    policy.add_argument("--alert-cost", type=float, metavar="X", help="cost of checking one alert")
    policy.add_argument("--alerts-per-day", type=_positive, metavar="N", help="alerts that can be checked in a day")
    policy.add_argument("--reason", default="by hand", metavar="TEXT", help="kept in the policy")
    add(
        "verify",
        _verify,
        "check that what runs have left is whole",
        "Read tables, manifest, sets, models and stores, and compare them: one line for each, ok or what is wrong and\n"
        "how to fix it. Changes nothing. `mlops doctor` does the same without reading data files to their ends.",
        "mlops verify",
    )
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
    revert = add(
        "revert",
        _revert,
        "take loaded batches out again",
        "Run the job `revert_batches`: the tables are then as if the batches had never come, and models that were\n"
        "trained on them are named. A reverted batch may be loaded again. Without --batch, list the batches.",
        "mlops revert",
        "mlops revert --batch 3fa9c1",
        "mlops revert --batch 3fa9c1 --batch 77b0e2",
    )
    revert.add_argument(
        "--batch", action="append", default=[], metavar="ID", help="id of a batch, or its beginning; may be repeated"
    )
    repair = add(
        "repair",
        _repair,
        "load again what the raw table has lost",
        "Run the job `repair_tables`: batches that are on record and that the raw table lacks (its folder is\n"
        "gone, its last commits are lost, an older version was restored) are loaded again from the source. With\n"
        "--drop they are only taken off the record, and may be loaded later.",
        "mlops repair",
        "mlops repair --drop",
    )
    repair.add_argument("--drop", action="store_true", help="go on without the lost batches")
    erasing = add(
        "erase",
        _erase,
        "erase a customer or card from all tables",
        "Show what the tables and the log of predictions hold of an entity, and which models were trained on it. With\n"
        "--yes erase it: tables get versions without it, everything older is deleted in spite of pins, and every file\n"
        "is searched afterwards. Starts no Dagster run, which would keep the value.",
        "mlops erase --entity 4711",
        "mlops erase --entity 4711 --yes",
    )
    erasing.add_argument(
        "--entity", action="append", required=True, metavar="VALUE", help="as the data has it; may be repeated"
    )
    erasing.add_argument("--yes", action="store_true", help="erase it, instead of showing what would be erased")
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


def _moment(text: str) -> datetime:
    found = datetime.fromisoformat(text)
    return found if found.tzinfo else found.replace(tzinfo=UTC)


_moment.__name__ = "moment, such as 2026-11-01T00:00Z"


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


if __name__ == "__main__":
    sys.exit(main())
