"""Name what the installed Dagster lacks of the private names that this project uses.

Needs nothing but Dagster, so that it runs with a version that the project does not install yet:

    uv run --no-project --isolated --with 'dagster==1.12.*' --with 'dagster-databricks==0.28.*' \
        mlops_assets_tests/dagster_names.py

Prints a line for each name that is missing; ends with 1 if there is any.
"""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import version
from pathlib import Path

INTERNALS = Path(__file__).resolve().parents[1] / "mlops_assets" / "dagster_internals.py"
# Private methods and attributes of public classes that are overridden or read.
MEMBERS = (
    # Replaced, so that the web server stands behind the guard (`instance.guarded_dagster`).
    ("dagster._cli.dev", "open_ipc_subprocess"),
    # Replaced, so that Ctrl-C spares what shows a step's output (`cli.run_job`).
    ("dagster._core.execution.compute_logs", "subprocess"),
    ("dagster", "DefaultRunLauncher._instance"),
    # Set by the private attribute of the same name.
    ("dagster", "StepExecutionContext.requires_typed_event_stream"),
    ("dagster_databricks", "PipesDatabricksClient._poll_til_success"),
    ("dagster_databricks", "PipesDatabricksClient._extract_dagster_metadata"),
)


def imported(text: str) -> list[tuple[str, str]]:
    """Return module and name of each import of a module's text, sorted."""
    return sorted(
        (node.module or "", alias.name)
        for node in ast.parse(text).body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    )


def missing(names: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield each name that the installed version lacks, with its module; a name may be that of a class's member."""
    for module, name in names:
        try:
            found: object = importlib.import_module(module)
        except ImportError:
            yield f"{module} (for {name})"
            continue
        for part in name.split("."):
            if not hasattr(found, part):
                yield f"{module}.{name}"
                break
            found = getattr(found, part)


def main() -> int:
    """Print what is missing."""
    names = [*imported(INTERNALS.read_text("utf-8")), *MEMBERS]
    lacking = list(missing(names))
    for name in lacking:
        sys.stdout.write(f"dagster {version('dagster')} has no {name}\n")
    if not lacking:
        sys.stdout.write(f"dagster {version('dagster')} has all {len(names)} private names\n")
    return 1 if lacking else 0


if __name__ == "__main__":
    del sys.path[0]  # this file's folder, whose `databricks` would hide the SDK's
    sys.exit(main())
