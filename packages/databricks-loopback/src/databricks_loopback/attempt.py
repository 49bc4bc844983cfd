"""Runs one task: waits for the cluster, starts the driver, watches it, delivers its logs.

What belongs here: the order of those steps and the ways in which each can end. What does not: threads (`runner`), the
machine (`sandbox`), what the driver does (`image.driver`), records (`runs`, `clusters`).

The states are PENDING, RUNNING, TERMINATING, TERMINATED, as in the Jobs API.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from databricks_loopback import sandbox, start_failures
from databricks_loopback.cluster_settings import WAREHOUSE, environment, exported, write_spark_conf
from databricks_loopback.clusters import Cluster, Clusters
from databricks_loopback.faults import Fate, Faults
from databricks_loopback.libraries import LibraryError, install, require_lines
from databricks_loopback.run_states import (
    CANCELED,
    FAILED,
    SUCCESS,
    TIMED_OUT,
    UPSTREAM_FAILED,
    End,
)
from databricks_loopback.runs import Run, TaskRun
from databricks_loopback.secret_store import SecretStore, UnresolvedSecretError
from databricks_loopback.serverless import dependencies_of, is_serverless, machine_of
from databricks_loopback.start_failures import StartFailure
from databricks_loopback.storage import Storage

_TICK_S = 0.05
_IMAGE = Path(__file__).parent / "image"


@dataclass(frozen=True)
class Platform:
    """The services of the workspace that a task uses.

    Attributes:
        storage: The folders that machines mount.
        secrets: The secrets that references point to.
        clusters: The registry of clusters.
        faults: The faults to inject.
        jars: Folder with jars for Spark's class path; Spark has no Delta if it is empty.
        java_home: JAVA_HOME, if there is Java.
        hidden: Folders of this machine that no task may see.
        cores: Spark's local cores.
        memory: Heap of the driver, in JVM notation.
        dbfs: Whether machines mount DBFS.
        metastore: Folder of the metastore that all clusters share, or None.
        schemas: Returns the metastore's schemas.
        identify: Returns the workspace's address and a token, for a cluster and the user that runs it.
    """

    storage: Storage
    secrets: SecretStore
    clusters: Clusters
    faults: Faults
    jars: Path
    java_home: Path | None
    hidden: Sequence[Path]
    cores: int
    memory: str
    dbfs: bool
    metastore: Path | None
    schemas: Callable[[], list[str]]
    identify: Callable[[Cluster, str], tuple[str, str]]


@dataclass(frozen=True)
class _Prepared:
    """The driver's input: its `task.json`, the cluster's resolved environment variables, names of libraries."""

    description: dict[str, Any]
    variables: dict[str, str]
    libraries: set[str]


class _Ended(Exception):  # noqa: N818 - an end, which may be an intended one
    def __init__(self, end: End) -> None:
        super().__init__(end.message)
        self.end = end


class Attempt:
    """One task of a run, from submission to its end.

    Args:
        platform: The services that it uses.
        run: The run it is part of.
        task: Its record, which is updated.
    """

    def __init__(self, platform: Platform, run: Run, task: TaskRun) -> None:
        self._platform, self._run, self._task = platform, run, task
        limits = [limit for limit in (run.request.get("timeout_seconds"), task.spec.get("timeout_seconds")) if limit]
        self._deadline = time.monotonic() + min(limits) if limits else None

    def live(self) -> None:
        """Run the task to its end and record how it ended."""
        task, end = self._task, None
        try:
            self._await_upstream()
            cluster = self._find_cluster()
            fate = Fate()
            if cluster.source != "SERVERLESS":
                task.cluster = cluster
                fate = self._start(cluster)
            end = self._drive(cluster, fate, self._prepare(cluster))
        except _Ended as ended:
            end = ended.end
        finally:
            if task.phase in ("PENDING", "RUNNING"):
                task.phase = "TERMINATING"
            self._clean()
            task.finish(end or _failure("Internal error of the loopback workspace", "INTERNAL_ERROR", "INTERNAL_ERROR"))

    def _await_upstream(self) -> None:
        upstream = {dependency["task_key"] for dependency in self._task.spec.get("depends_on") or []}
        for other in self._run.tasks:
            if other.key in upstream:
                while not other.finished.is_set():
                    self._pause()
                if other.end is None or not other.end.is_success:
                    raise _Ended(UPSTREAM_FAILED)

    def _find_cluster(self) -> Cluster:
        spec, clusters = self._task.spec, self._platform.clusters
        if is_serverless(spec):
            return machine_of(self._run.request, spec, self._run.creator)
        if spec.get("existing_cluster_id"):
            return clusters.get(str(spec["existing_cluster_id"]))
        return clusters.add(spec["new_cluster"], source="JOB", creator=self._run.creator)

    def _start(self, cluster: Cluster) -> Fate:
        with cluster.starting:  # tasks of an all-purpose cluster wait for the same start
            fate = self._platform.faults.fate(starting=cluster.state != "RUNNING")
            if cluster.state != "RUNNING":
                cluster.begin()
                if fate.delay_s:
                    self._pause(fate.delay_s)
                if fate.failure:
                    raise self._start_failure(cluster, fate.failure)
                cluster.run()
        return fate

    def _prepare(self, cluster: Cluster) -> _Prepared:
        """Put driver, settings and libraries into the task's folder."""
        platform, task = self._platform, self._task
        control = task.folder / "control"
        shutil.copytree(_IMAGE, control, ignore=shutil.ignore_patterns("__pycache__"))
        try:
            settings = platform.secrets.resolve(cluster.spec.get("spark_conf") or {})
            variables = exported(platform.secrets.resolve(cluster.spec.get("spark_env_vars") or {}))
        except UnresolvedSecretError:
            raise self._start_failure(cluster, start_failures.SECRETS) from None
        if variables is None:
            raise self._start_failure(cluster, start_failures.ENVIRONMENT)
        write_spark_conf(
            control / "conf",
            cluster,
            settings,
            cores=platform.cores,
            memory=platform.memory,
            delta=any(platform.jars.iterdir()),
            metastore=platform.metastore is not None,
        )
        file, parameters, widgets = self._program()
        try:
            libraries = install(task.spec.get("libraries") or [], platform.storage, task.folder / "libraries")
            libraries |= require_lines(dependencies_of(self._run.request, task.spec), platform.storage)
        except LibraryError as error:
            raise _Ended(_failure(str(error), "LIBRARY_INSTALLATION_ERROR", "CLIENT_ERROR")) from None
        host, token = platform.identify(cluster, self._run.creator)
        description = {
            "host": host,
            "token": token,
            "file": file,
            "parameters": parameters,
            "widgets": widgets,
            "is_notebook": bool(task.spec.get("notebook_task")),
            "with_context": not cluster.is_shared,
            "serverless": cluster.source == "SERVERLESS",
            "schemas": platform.schemas() if platform.metastore else [],
            "secrets": {
                scope: {key: base64.b64encode(value).decode() for key, value in secrets.items()}
                for scope, secrets in platform.secrets.everything().items()
            },
        }
        return _Prepared(description, variables, libraries)

    def _program(self) -> tuple[str, list[str], dict[str, str]]:
        """Return the path on the cluster of the task's file, its arguments, and the widgets of a notebook."""
        storage, notebook = self._platform.storage, self._task.spec.get("notebook_task")
        python = self._task.spec.get("spark_python_task") or {}
        named = notebook["notebook_path"] if notebook else python["python_file"]
        if not storage.locate(named).is_file():
            message = f"Cannot read the python file {named}. Please check driver logs for more details."
            if notebook:
                message = (
                    f'Unable to access the notebook "{named}". Either it does not exist, or the identity used to run '
                    f"this job, {self._run.creator}, lacks the required permissions."
                )
            raise _Ended(_failure(message, "RESOURCE_NOT_FOUND", "CLIENT_ERROR"))
        widgets = (notebook or {}).get("base_parameters") or {}
        return storage.on_cluster(named), python.get("parameters") or [], widgets

    def _drive(self, cluster: Cluster, fate: Fate, prepared: _Prepared) -> End:
        task = self._task
        lifeline, held = os.pipe()
        with os.fdopen(held, "wb"):  # stays open while the driver may run
            try:
                process = self._launch(cluster, prepared, lifeline)
            finally:
                os.close(lifeline)
            try:
                task.running()
                lost_at = None if fate.lost_after_s is None else time.monotonic() + fate.lost_after_s
                while process.poll() is None:
                    if cluster.lost.is_set() or (lost_at is not None and time.monotonic() >= lost_at):
                        cluster.fail(start_failures.SPOT_LOSS)
                        return _driver_lost(cluster)
                    self._pause()
            finally:
                _kill(process)
        return self._outcome(cluster)

    def _launch(self, cluster: Cluster, prepared: _Prepared, lifeline: int) -> subprocess.Popen[bytes]:
        task, platform = self._task, self._platform
        description = prepared.description | {"lifeline": lifeline}
        (task.folder / "control" / "task.json").write_text(json.dumps(description), "utf-8")
        for folder in platform.storage.volumes.rglob("*/"):
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                os.utime(folder, (0, 0))  # folders of an object store have no time of their own
        root, local, temporary = (task.folder / name for name in ("root", "local_disk0", "tmp"))
        for folder in (root, local, temporary):
            folder.mkdir()
        mounts = {
            inside: tree
            for inside, tree in platform.storage.mounts.items()
            if inside != "/dbfs" or (platform.dbfs and not cluster.is_shared)
        }
        mounts |= {"/tmp": temporary, "/local_disk0": local}  # noqa: S108 - the machine's own, not this one's
        mounts |= {sandbox.CONTROL: task.folder / "control", sandbox.LIBRARIES: task.folder / "libraries"}
        mounts |= {sandbox.JARS: platform.jars}
        if platform.metastore:
            mounts |= {sandbox.METASTORE: platform.metastore}
            if "/dbfs" not in mounts:  # managed tables, whose storage is elsewhere on Databricks
                warehouse = platform.storage.dbfs / WAREHOUSE
                warehouse.mkdir(parents=True, exist_ok=True)
                mounts |= {f"/dbfs/{WAREHOUSE}": warehouse}
        machine = sandbox.Machine(mounts, platform.java_home, platform.hidden, prepared.libraries)
        driver = [sandbox.PYTHON, "-P", "-u", f"{sandbox.CONTROL}/driver.py", sandbox.CONTROL]
        with (task.folder / "stdout").open("wb") as stdout, (task.folder / "stderr").open("wb") as stderr:
            return subprocess.Popen(
                machine.command(root, driver),
                env=environment(cluster, prepared.variables, platform.java_home),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=(lifeline,),
                start_new_session=True,
            )

    def _outcome(self, cluster: Cluster) -> End:
        written = self._task.folder / "control" / "outcome.json"
        if not written.exists():  # the driver died without a report
            if cluster.source == "JOB":
                cluster.fail(start_failures.DRIVER_LOST)
            return _driver_lost(cluster)
        outcome = json.loads(written.read_text("utf-8"))
        self._task.error, self._task.error_trace = outcome.get("error", ""), outcome.get("error_trace", "")
        tables = sorted(self._platform.storage.volumes.rglob("_delta_log"))
        if tables:
            table = "/Volumes" / tables[0].parent.relative_to(self._platform.storage.volumes)
            for log in tables:
                shutil.rmtree(log.parent)
            return _failure(f"{table}: volumes can't hold tables.", "RUN_EXECUTION_ERROR", "CLIENT_ERROR")
        return FAILED if outcome else SUCCESS

    def _clean(self) -> None:
        """Deliver logs, terminate the job's own cluster, and remove what only the machine needed."""
        task, cluster = self._task, self._task.cluster
        if cluster is not None:
            if cluster.log_destination.startswith(("dbfs:", "/Volumes")):
                self._deliver_logs(cluster)
            if cluster.source == "JOB" and cluster.state != "TERMINATED":
                cluster.end("JOB_FINISHED", "SUCCESS")
        for name in ("control", "libraries", "local_disk0", "tmp", "root"):
            if (task.folder / name).exists():
                shutil.rmtree(task.folder / name)

    def _deliver_logs(self, cluster: Cluster) -> None:
        target = self._platform.storage.locate(cluster.log_destination) / cluster.id / "driver"
        target.mkdir(parents=True, exist_ok=True)
        for name in ("stdout", "stderr"):
            source = self._task.folder / name
            with (target / name).open("ab") as log:  # an all-purpose cluster has one log for all tasks
                log.write(source.read_bytes() if source.exists() else b"")

    def _start_failure(self, cluster: Cluster, failure: StartFailure) -> _Ended:
        cluster.fail(failure)
        kind = "CLOUD_FAILURE" if failure.type == "CLOUD_FAILURE" else "CLUSTER_ERROR"
        type_ = "INTERNAL_ERROR" if failure.type == "SERVICE_FAULT" else failure.type
        return _Ended(_failure(failure.run_message(cluster.id), kind, type_))

    def _pause(self, seconds: float = _TICK_S) -> None:
        """Wait, but no longer than the task's time limit.

        Raises:
            _Ended: The task was cancelled, or its time is up.
        """
        if self._deadline is not None:
            seconds = min(seconds, self._deadline - time.monotonic())
        if self._task.cancel.wait(max(seconds, 0)):
            raise _Ended(CANCELED)
        if self._deadline is not None and time.monotonic() >= self._deadline:
            raise _Ended(TIMED_OUT)


def _failure(message: str, code: str, kind: str) -> End:
    return End("INTERNAL_ERROR", "FAILED", message, code, kind)


def _driver_lost(cluster: Cluster) -> End:
    return _failure(f"Could not reach driver of cluster {cluster.id}.", "DRIVER_ERROR", "CLOUD_FAILURE")


def _kill(process: subprocess.Popen[bytes]) -> None:
    """Kill the machine and wait until its last process is gone.

    Killing the first process in its PID namespace ends all others; `unshare` returns after that.
    """
    if process.poll() is None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        first = children.read_text().split() if children.exists() else []
        if first:
            os.kill(int(first[0]), signal.SIGKILL)
        else:  # the machine has not started yet
            os.killpg(process.pid, signal.SIGKILL)
    process.wait()
