"""The command line of `mlops`: commands, their arguments, and what `--help` says of them.

What belongs here: what a person may type, and what argparse checks of it. What does not: which code a command runs
(`main`), and any import beside the standard library's: `mlops --help` answers at once.
"""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from mlops_assets import __version__
from mlops_assets.cli.exit_codes import DONE, FAILED, INTERRUPTED, REFUSED

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


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line; what it parses has the name of the command as `command`."""
    parser = argparse.ArgumentParser(
        prog="mlops",
        description=_ABOUT,
        epilog=f"{_EXAMPLES}\n{_EXIT_CODES}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"mlops_assets {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="command", required=True)

    def add(
        name: str, summary: str, about: str, *examples: str, model_required: bool = False
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
        return added

    demo = add(
        "demo",
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
        "serve Dagster's web UI on this machine",
        "Serve Dagster's web UI on 127.0.0.1, with the daemon that runs sensors and schedules, until Ctrl-C.\n"
        "If MLflow's store is the embedded one, its UI is served beside, where MLOPS_MLFLOW_UI says.",
        "mlops ui --port 3001",
        "MLOPS_AUTOMATION=on MLOPS_SOURCE=landing mlops ui",
    )
    ui.add_argument("--port", type=_positive, default=3000, metavar="N", help="port (default: %(default)s)")
    served = add(
        "serve",
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
        "list the models: champion, age, last load",
        "Print one line for each model of the code location: its champion and that version's age, and when its raw\n"
        "table was last loaded. In the folder of a project for dg, these are the project's models.",
        "mlops models",
        "cd examples/own_project && mlops models",
    )
    retire = add(
        "retire",
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
        "show who is and was champion, and why",
        "Print each change of the alias `champion`, oldest first: when, which version, what happened, why and who.\n"
        "With --at only the one that held at that moment. Changes nothing.",
        "mlops champion",
        "mlops champion --at 2026-11-01T00:00Z",
    )
    champion.add_argument("--at", type=_moment, metavar="TIME", help="a moment, ISO 8601; without a time zone in UTC")
    rollback = add(
        "rollback",
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
        "approve a version that passed the gate",
        "Approve the challenger that waits for approval (option `approvals` of the gate). With the last approval that\n"
        "it needs it becomes champion. Whoever trained it can't approve it.",
        "mlops approve 7 --reason 'looked at the worst misses'",
    )
    approving.add_argument("version", type=_positive, metavar="N", help="the version")
    approving.add_argument("--reason", default="by hand", metavar="TEXT", help="kept in the ledger")
    policy = add(
        "policy",
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
        "check that what runs have left is whole",
        "Read tables, manifest, sets, models and stores, and compare them: one line for each, ok or what is wrong and\n"
        "how to fix it. Changes nothing. `mlops doctor` does the same without reading data files to their ends.",
        "mlops verify",
    )
    add(
        "upkeep",
        "compact the tables and delete old files",
        "Run the job `upkeep`: compact the small files of each table, and delete files that no kept version needs.\n"
        "Versions that registered models are pinned to stay readable.",
        "mlops upkeep",
    )
    add(
        "replay",
        "retry the rows in quarantine",
        "Run the job `replay_quarantine`: check the rows in quarantine against the current contract, and move those\n"
        "that pass into the raw table.",
        "MLOPS_CONTRACT=fixed.yaml mlops replay",
    )
    revert = add(
        "revert",
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
