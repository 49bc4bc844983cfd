"""Running one job of the code location in the embedded Dagster instance, with progress in the terminal.

What belongs here: starting the job, and the output that every job has. What does not: the output of a specific job
(`demo`, `tables`), and anything a run needs that does not come from the assets themselves.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from mlops_assets.automation.alerts import failure_reason, first_cause
from mlops_assets.cli.exit_codes import FAILED, INTERRUPTED
from mlops_assets.cli.location import ATTRIBUTE
from mlops_assets.cli.progress_bar import SearchBar, search_bar
from mlops_assets.dagster_internals import ReconstructableRepository, RunFailureReason, compute_logs, execute_run
from mlops_assets.foreign_text import for_terminal
from mlops_assets.fraud_model.shared import IN_PROCESS
from mlops_assets.instance.home import prepare_for
from mlops_assets.instance.run_launcher import fail_dead_runs
from mlops_assets.lineage import RUN_PROCESS_TAG
from mlops_assets.processes import this_process

if TYPE_CHECKING:
    from mlops_assets.cli.location import Chosen
    from mlops_assets.settings import Settings

# Returns facts about a Databricks run, given the URL of its page; called at its launch and at the end of its step.
About = Callable[[str], dict[str, Any]]

# Dagster's own log lines would repeat everything.
_QUIET: Final = {"console": {"config": {"log_level": "CRITICAL"}}}
_QUIET_SECONDS: Final = 10.0
_PAGE: Final = "Databricks run"  # the link's name in the step launcher's metadata
_ENDS: Final = {
    dg.DagsterEventType.STEP_SUCCESS: "done",
    dg.DagsterEventType.STEP_FAILURE: "FAILED",
    dg.DagsterEventType.STEP_UP_FOR_RETRY: "FAILED, will be tried again,",
}


@dataclass
class RunPrinter:
    """Prints a run's progress: assets, trials, launches, refusals.

    Attributes:
        about: Returns facts about a Databricks run.
        bar: Progress bar of the search; None without a terminal.
        seconds: Time of each finished step.
        launches: Databricks runs in launch order: `step`, `page`, and what `about` returned at the end of the step.
    """

    about: About | None = None
    bar: SearchBar | None = None
    seconds: dict[str, float] = field(default_factory=dict)
    launches: list[dict[str, Any]] = field(default_factory=list)
    _started: dict[str, float] = field(default_factory=dict)
    _last_line: float = field(default_factory=time.monotonic)

    def __call__(self, entry: dg.EventLogEntry) -> None:
        """Print one entry of the event log, if it is of interest."""
        step, event = entry.step_key, entry.dagster_event
        if step is None:
            return
        if step not in self._started:
            self._started[step] = time.monotonic()
            self._print(f"  {step} ...")
        if event is None:
            self._print(f"    {entry.user_message}")
        elif event.event_type == dg.DagsterEventType.ENGINE_EVENT:
            self._launched(step, event)
        elif event.event_type in _ENDS:
            self.seconds[step] = round(time.monotonic() - self._started[step], 2)
            self._ended(step)
            self._print(f"  {step} {_ENDS[event.event_type]} in {self.seconds[step]:.1f} s")
            if event.event_type == dg.DagsterEventType.STEP_UP_FOR_RETRY:
                self._print(f"    {first_cause(event.step_retry_data.error)}")

    def remind(self, now: float, after: float) -> None:
        """Say which steps are still running, if nothing was printed for a while.

        Args:
            now: The time, by `time.monotonic`.
            after: After so many seconds without a line.
        """
        running = [step for step in list(self._started) if step not in self.seconds]
        if running and now - self._last_line >= after:
            listed = ", ".join(f"{step} ({now - self._started[step]:.0f} s)" for step in running)
            self._print(f"    still running: {listed}")

    def _launched(self, step: str, event: dg.DagsterEvent) -> None:
        page = event.engine_event_data.metadata.get(_PAGE)
        if page is None:
            return
        self.launches.append({"step": step, "page": page.value})
        self._print(f"    {event.message} {page.value}")
        if self.about is not None:
            self._print(f"    {facts_line(self.about(str(page.value)))}")

    def _ended(self, step: str) -> None:
        if self.about is not None and self.launches and self.launches[-1]["step"] == step:
            self.launches[-1] |= self.about(self.launches[-1]["page"])

    def _print(self, text: str) -> None:
        self._last_line = time.monotonic()
        text = for_terminal(text)  # messages of a cluster, of libraries, and names of files are among them
        if self.bar is None:
            print_line(text)
        else:
            self.bar.write(text)


@dataclass(frozen=True)
class FinishedRun:
    """A finished run, successful or not.

    Attributes:
        result: Dagster's result.
        seconds: Time of each finished step.
        launches: As in `RunPrinter`.
    """

    result: dg.JobExecutionResult
    seconds: dict[str, float]
    launches: list[dict[str, Any]]

    @property
    def was_interrupted(self) -> bool:
        """Whether it was stopped from outside (Ctrl-C)."""
        if self.result.success:
            return False
        failure = self.result.get_run_failure_event().job_failure_data
        return failure.failure_reason == RunFailureReason.UNEXPECTED_TERMINATION

    def metadata(self) -> dict[str, dict[str, Any]]:
        """Return the materialization metadata of each asset as plain values, by its name without the model's."""
        return {
            event.asset_key.path[-1]: {name: value.value for name, value in event.materialization.metadata.items()}
            for event in self.result.get_asset_materialization_events()
            if event.asset_key is not None
        }


def run_job(
    settings: Settings,
    chosen: Chosen,
    job_name: str,
    title: str,
    *,
    ops: Mapping[str, Mapping[str, Any]] | None = None,
    about: About | None = None,
) -> FinishedRun:
    """Run a job to its end in this process.

    Args:
        settings: The settings of this process's environment; the code location is loaded with them.
        chosen: The model.
        job_name: Name of the job, without the model's.
        title: The first line to print.
        ops: Config of assets, by name, as far as it is not the default.
        about: Returns facts about a Databricks run.

    Raises:
        PlatformError: The code location can't be loaded with these settings, or the instance's folder can't be written.
    """
    # Load it here first: Dagster's loader would wrap an error in stack traces.
    chosen.location.load()
    # A step can only be launched if another process can load its job by module.
    repository = ReconstructableRepository.for_module(chosen.location.module, ATTRIBUTE)
    job = repository.get_reconstructable_job(chosen.spec.prefixed(job_name))
    given = {chosen.spec.prefixed(op): {"config": dict(config)} for op, config in (ops or {}).items()}
    # Events of steps in processes of their own don't reach the printer.
    execution = {"config": {IN_PROCESS: True}} if settings.target == "databricks" else None
    config = dg.RunConfig(ops=given, loggers=_QUIET, execution=execution).to_config_dict()
    definition = job.get_definition()
    home = str(prepare_for(settings))
    with dg.DagsterInstance.from_config(home) as instance, search_bar(sys.stderr) as bar:
        printer = RunPrinter(about, bar)
        for run_id in fail_dead_runs(instance):
            print_line(f"Run {run_id} was still in progress, and its process is gone: it has failed.")
        run = instance.create_run_for_job(
            definition,
            job_code_origin=job.get_python_origin(),
            run_config=config,
            tags={RUN_PROCESS_TAG: this_process()},
        )
        instance.add_event_listener(run.run_id, printer)
        print_line(title)
        with _reminded(printer), _spared_helpers():
            result = execute_run(job, run, instance)
    return FinishedRun(result, printer.seconds, printer.launches)


@contextmanager
def _reminded(printer: RunPrinter, after: float = _QUIET_SECONDS) -> Iterator[None]:
    """Have a long step say that it is still running."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(after / 5):
            printer.remind(time.monotonic(), after)

    thread = threading.Thread(target=look, name="reminder", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


@contextmanager
def _spared_helpers() -> Iterator[None]:
    """Have Dagster start what shows a step's output outside of this process's group.

    In a terminal Ctrl-C reaches the whole group, and a helper ends with a stack trace. This process ends them, and they
    end when it is gone.
    """
    namespace: Any = compute_logs
    kept = namespace.subprocess
    namespace.subprocess = SimpleNamespace(Popen=partial(subprocess.Popen, start_new_session=True))
    try:
        yield
    finally:
        namespace.subprocess = kept


def report_failure(finished: FinishedRun) -> int:
    """Print why a run failed, and return the exit code."""
    if finished.was_interrupted:
        print_line("\nInterrupted.")
        return INTERRUPTED
    print_line("\nThe job failed:")
    for event in finished.result.get_step_failure_events():
        print_line(f"  {event.step_key}: {failure_reason(event)}")
    return FAILED


def facts_line(launch: Mapping[str, Any]) -> str:
    """Return the facts about a launch in one line."""
    facts = {name.replace("_", " "): value for name, value in launch.items() if name not in ("step", "page")}
    return ", ".join(f"{name} {value}" for name, value in facts.items())


def print_line(text: str) -> None:
    """Print a line and flush, so that it also appears at once in a pipe."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()
