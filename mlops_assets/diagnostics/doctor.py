"""The check-up: one line for each thing that must be there before a run, each ok or what to do about it.

What belongs here: looking, without changing anything but a probe file that is removed again, and without starting a
cluster. What does not: reading settings (`settings`), fixing what is wrong, launching.

It imports databricks-sdk (1 s), so whoever loads a code location imports it where it is used.
"""

from __future__ import annotations

import base64
import io
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import requests
from databricks.sdk import WorkspaceClient
from databricks.sdk.config import Config
from databricks.sdk.errors.base import DatabricksError
from packaging.requirements import Requirement

from mlops_assets.databricks.cluster import ClusterSpec
from mlops_assets.databricks.libraries import cluster_requirements, installed_version
from mlops_assets.databricks.preflight import OLDEST_PYTHON, Finding, compare, local_versions, runtime_versions
from mlops_assets.databricks.profile import DatabricksProfile
from mlops_assets.errors import PlatformError, SettingsError
from mlops_assets.resources.java import require_java
from mlops_assets.settings import LAUNCH_POOL, Settings

if TYPE_CHECKING:
    from dagster import DagsterInstance

_NEWEST_PYTHON: Final = (3, 13)
# The SDK repeats for 5 minutes what could not connect; someone who asks what is wrong wants to know now.
_PATIENCE_S: Final = 10
# What the SDK raises for an answer that is an error, and for no answer.
_ERRORS: Final = (DatabricksError, OSError, TimeoutError)
_PROBE: Final = b"mlops_assets doctor: may be deleted\n"
_LOGIN_MEND: Final = (
    "set DATABRICKS_TOKEN, or DATABRICKS_CLIENT_ID and DATABRICKS_CLIENT_SECRET, to credentials of this workspace"
)


def diagnose(
    *,
    home: Path,
    java_home: str | None,
    settings_problem: PlatformError | None = None,
    profile: DatabricksProfile | None = None,
    credentials: Mapping[str, str] | None = None,
) -> list[Finding]:
    """Return what was found, in the order in which it should be fixed.

    Args:
        home: Folder that runs write to.
        java_home: JAVA_HOME as the process has it.
        settings_problem: Why the settings or the profile could not be read, if they could not.
        profile: The Databricks environment; None checks this machine alone.
        credentials: Of the workspace, by the names of databricks-sdk (`token`, or `client_id` and `client_secret`);
            None or empty looks where that looks by itself (`~/.databrickscfg`, the clouds' own tools).
    """
    found = [*_machine(home, java_home), *_settings(settings_problem)]
    return found if profile is None else [*found, *_versions(profile), *_workspace(profile, dict(credentials or {}))]


def report(findings: Iterable[Finding]) -> tuple[str, int]:
    """Return the lines to print, and the exit code: 1 when something is wrong, else 0 (warnings included)."""
    listed = list(findings)
    return "\n".join(map(str, listed)), int(any(finding.level == "error" for finding in listed))


# This machine --------------------------------------------------------------------------------------------------------


def _machine(home: Path, java_home: str | None) -> Iterator[Finding]:
    try:
        yield _ok("java", f"Java {require_java(java_home)}")
    except SettingsError as error:
        yield _wrong("java", str(error))
    here = sys.version_info[:2]
    text = f"Python {here[0]}.{here[1]}"
    supported = OLDEST_PYTHON <= here <= _NEWEST_PYTHON
    yield _ok("python", text) if supported else _wrong("python", f"{text} is not supported; use 3.11, 3.12 or 3.13")
    yield _installed()
    yield _home(home)


def _installed() -> Finding:
    try:
        wanted = cluster_requirements()
    except SettingsError as error:
        return _wrong("packages", str(error))
    wrong = [_misfit(name, requirement) for name, requirement in sorted(wanted.items())]
    problems = [problem for problem in wrong if problem]
    if problems:
        return _wrong("packages", f"{'; '.join(problems)}; run `make setup`")
    return _ok("packages", f"{len(wanted)} requirements are met, dagster {metadata.version('dagster')}")


def _misfit(name: str, requirement: Requirement) -> str:
    found = installed_version(name)
    if found is None:
        return f"{name} is not installed"
    fits = requirement.specifier.contains(found, prereleases=True)
    return "" if fits else f"{name} is {found}, wanted {requirement.specifier}"


def _home(home: Path) -> Finding:
    probe = home / f".doctor-{uuid.uuid4().hex}"
    try:
        home.mkdir(parents=True, exist_ok=True)
        probe.write_bytes(_PROBE)
        probe.unlink()
    except OSError as error:
        return _wrong("home", f"{home} can't be written: {error.strerror}; set MLOPS_HOME to a folder that can")
    return _ok("home", f"{home} can be written")


def _settings(problem: PlatformError | None) -> Iterator[Finding]:
    yield _ok("settings", "valid") if problem is None else _wrong("settings", str(problem))


def _versions(profile: DatabricksProfile) -> Iterator[Finding]:
    here = local_versions()
    for spec in (profile.clusters.loader, profile.clusters.trials):
        if spec.existing_cluster_id is not None:
            continue  # what is on it is compared when a step starts there
        differences = compare(here, runtime_versions(spec.databricks_runtime))
        subject = f"versions of {spec.cost_class}"
        for difference in differences:
            yield replace(difference, subject=subject, text=f"{difference.subject} {difference.text}")
        if not differences:
            yield _ok(subject, f"runtime {spec.runtime} goes with this environment")


# The workspace -------------------------------------------------------------------------------------------------------


def _workspace(profile: DatabricksProfile, credentials: dict[str, str]) -> Iterator[Finding]:
    reached = _host(profile.host)
    yield reached
    if reached.level == "error":
        return
    try:
        client = WorkspaceClient(config=Config(host=profile.host, **_login(credentials)))
        user = client.current_user.me().user_name
    except (*_ERRORS, ValueError) as error:
        # ValueError: it finds no credentials, or the login server refuses those it has.
        yield _wrong("credentials", f"refused: {_short(error)}; {_LOGIN_MEND}")
        return
    yield _ok("credentials", f"accepted, as {user}")
    yield _staging(client, profile)
    if profile.tables == "catalog":
        yield _schema(client, profile)
    for spec in (profile.clusters.loader, profile.clusters.trials):
        yield from _cluster(client, spec)
    yield from _secrets(client, profile)
    yield _mlflow(client, profile.tracking_uri)


def _host(host: str) -> Finding:
    try:
        requests.get(host, timeout=_PATIENCE_S, allow_redirects=False)
    except requests.RequestException as error:
        fix = "check the address (MLOPS_DATABRICKS_HOST), VPN and proxy"
        return _wrong("host", f"{host} can't be reached: {_short(error)}; {fix}")
    return _ok("host", f"{host} answers")


def _login(credentials: dict[str, str]) -> dict[str, Any]:
    waits = {"http_timeout_seconds": _PATIENCE_S, "retry_timeout_seconds": _PATIENCE_S}
    # Named, so that other credentials, which the SDK finds in the environment by itself, are no contradiction to it.
    kinds = {"token": "pat", "client_id": "oauth-m2m"}
    named = [kind for name, kind in kinds.items() if name in credentials]
    return {**waits, **credentials, **({"auth_type": named[0]} if named else {})}


def _staging(client: WorkspaceClient, profile: DatabricksProfile) -> Finding:
    write, remove = _probes(client, profile)
    try:
        write()
        remove()
    except _ERRORS as error:
        fix = _staging_mend(profile, error)
        return _wrong("staging", f"{profile.staging_path} can't be written: {_short(error)}; {fix}")
    return _ok("staging", f"{profile.staging_path} can be written and cleaned")


def _probes(client: WorkspaceClient, profile: DatabricksProfile) -> tuple[Callable[[], object], Callable[[], object]]:
    name = f"{profile.staging_path}/.doctor-{uuid.uuid4().hex}"
    if profile.staging == "volume":
        return lambda: client.files.upload(name, io.BytesIO(_PROBE)), lambda: client.files.delete(name)
    path = name.removeprefix("dbfs:")
    content = base64.b64encode(_PROBE).decode()
    return lambda: client.dbfs.put(path, contents=content), lambda: client.dbfs.delete(path)


def _staging_mend(profile: DatabricksProfile, error: Exception) -> str:
    if profile.staging == "dbfs":
        if "disabled" in str(error):
            return "this workspace has DBFS switched off: set `staging: volume` (MLOPS_DATABRICKS_STAGING=volume)"
        return "ask for the right to write there, or set `staging: volume` (MLOPS_DATABRICKS_STAGING=volume)"
    volume = ".".join(profile.staging_path.split("/")[2:5])
    return (
        f"create it (CREATE VOLUME {volume}) and grant READ VOLUME and WRITE VOLUME on it; in a workspace without "
        "Unity Catalog set `staging: dbfs` (MLOPS_DATABRICKS_STAGING=dbfs)"
    )


def _schema(client: WorkspaceClient, profile: DatabricksProfile) -> Finding:
    name = f"{profile.catalog}.{profile.db_schema}"
    try:
        client.schemas.get(name)
    except _ERRORS as error:
        fix = f"create it (CREATE SCHEMA {name}) and grant USE SCHEMA, CREATE TABLE and CREATE MODEL on it"
        return _wrong("schema", f"{name}: {_short(error)}; {fix}")
    return _ok("schema", f"{name} is there")


def _cluster(client: WorkspaceClient, spec: ClusterSpec) -> Iterator[Finding]:
    place = f"clusters.{spec.cost_class}"
    if spec.existing_cluster_id is not None:
        yield _existing(client, spec, place)
        return
    yield _runtime(client, spec, place)
    for field, node_type in (("node_type", spec.node_type), ("driver_node_type", spec.driver_node_type)):
        if node_type is not None:
            yield _node_type(client, spec, f"{place}.{field}", node_type)
    for field, pool in (
        ("instance_pool_id", spec.instance_pool_id),
        ("driver_instance_pool_id", spec.driver_instance_pool_id),
    ):
        if pool is not None:
            look = partial(client.instance_pools.get, pool)
            yield _there(f"{place}.{field}", pool, look, "name a pool that you may attach to")
    if spec.policy_id is not None:
        policy = partial(client.cluster_policies.get, spec.policy_id)
        fix = "name a cluster policy that you may use, or leave it out"
        yield _there(f"{place}.policy_id", spec.policy_id, policy, fix)


def _existing(client: WorkspaceClient, spec: ClusterSpec, place: str) -> Finding:
    subject, cluster_id = f"{place}.existing_cluster_id", str(spec.existing_cluster_id)
    try:
        details = client.clusters.get(cluster_id)
    except _ERRORS as error:
        return _wrong(subject, f"{cluster_id}: {_short(error)}; name a cluster that you may attach to")
    idle, most = details.autotermination_minutes or 0, spec.autotermination_minutes
    if most is not None and not 0 < idle <= most:
        ends = f"ends itself after {idle} idle minutes" if idle else "never ends itself"
        return _wrong(subject, f"{cluster_id} {ends}; set its auto-termination to {most} minutes or less")
    return _ok(subject, f"{cluster_id} is there")


def _runtime(client: WorkspaceClient, spec: ClusterSpec, place: str) -> Finding:
    subject = f"{place}.runtime"
    try:
        offered = [version.key or "" for version in client.clusters.spark_versions().versions or []]
    except _ERRORS as error:
        return _wrong(subject, f"the list of runtimes: {_short(error)}; ask for the right to create clusters")
    if spec.api_spark_version in offered:
        return _ok(subject, f"{spec.api_spark_version} is offered")
    builds = [key for key in offered if spec.databricks_runtime.names(key)]
    fix = f"set spark_version to {' or '.join(builds)}" if builds else "choose another runtime"
    return _wrong(subject, f"this workspace does not offer {spec.api_spark_version}; {fix}")


def _node_type(client: WorkspaceClient, spec: ClusterSpec, subject: str, name: str) -> Finding:
    try:
        offered = {node.node_type_id: node.num_cores for node in client.clusters.list_node_types().node_types or []}
    except _ERRORS as error:
        return _wrong(subject, f"the list of machine types: {_short(error)}; ask for the right to create clusters")
    if name not in offered:
        listed = ", ".join(sorted(offered)[:8])
        return _wrong(subject, f"this workspace does not offer {name}; use one that it has, such as {listed}")
    cores = int(offered[name])
    if spec.cost_class == "trials" and name == spec.node_type and spec.task_cpus != cores:
        text = f"{name} has {cores} cores and task_cpus is {spec.task_cpus}; set it to {cores}: one trial per worker"
        return _wrong(subject, text)
    return _ok(subject, f"{name} is offered, {cores} cores")


def _secrets(client: WorkspaceClient, profile: DatabricksProfile) -> Iterator[Finding]:
    wanted: dict[str, set[str]] = {}
    for secret in profile.secrets.values():
        wanted.setdefault(secret.scope, set()).add(secret.key)
    for spec in (profile.clusters.loader, profile.clusters.trials):
        for scope, key in spec.secret_references:
            wanted.setdefault(scope, set()).add(key)
    for scope, keys in sorted(wanted.items()):
        subject = f"secret scope {scope}"
        try:
            there = {secret.key for secret in client.secrets.list_secrets(scope)}
        except _ERRORS as error:
            fix = f"create it (databricks secrets create-scope {scope}) or ask for READ on it"
            yield _wrong(subject, f"{_short(error)}; {fix}")
            continue
        absent = sorted(keys - there)
        if absent:
            yield _wrong(subject, f"has no {', '.join(absent)}; databricks secrets put-secret {scope} {absent[0]}")
        else:
            yield _ok(subject, f"has {', '.join(sorted(keys))}")


def _mlflow(client: WorkspaceClient, tracking_uri: str) -> Finding:
    if tracking_uri.startswith("databricks"):
        try:
            next(iter(client.experiments.search_experiments(max_results=1)), None)
        except _ERRORS as error:
            return _wrong("mlflow", f"{_short(error)}; ask for workspace access, or set tracking_uri to a server")
        return _ok("mlflow", "the workspace's MLflow answers")
    if not tracking_uri.startswith(("http://", "https://")):
        return Finding("warning", "mlflow", f"{tracking_uri} is a place on the cluster, which is gone with it")
    try:
        status = requests.get(f"{tracking_uri.rstrip('/')}/health", timeout=_PATIENCE_S).status_code
    except requests.RequestException as error:
        return _wrong("mlflow", f"{tracking_uri} can't be reached: {_short(error)}; fix tracking_uri, or start it")
    if status != requests.codes.ok:
        return _wrong("mlflow", f"{tracking_uri}/health answers {status}; is it an MLflow server?")
    return _ok("mlflow", f"{tracking_uri} answers")


# Helpers -------------------------------------------------------------------------------------------------------------


def _there(subject: str, identity: str, look: Callable[[], object], fix: str) -> Finding:
    try:
        look()
    except _ERRORS as error:
        return _wrong(subject, f"{identity}: {_short(error)}; {fix}")
    return _ok(subject, f"{identity} is there")


def _short(error: BaseException) -> str:
    """Return the cause in one line, without the settings that the SDK adds and without layers of HTTP libraries."""
    cause: BaseException | None = error
    while cause is not None and isinstance(error, requests.RequestException):
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    lines = str(error).partition(". Config: ")[0].strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _ok(subject: str, text: str) -> Finding:
    return Finding("ok", subject, text)


def _wrong(subject: str, text: str) -> Finding:
    return Finding("error", subject, text)


def examine(settings: Settings) -> list[Finding]:
    """Diagnose an installation by its settings, which are valid one by one."""
    problem: PlatformError | None = None
    profile: DatabricksProfile | None = None
    try:
        from mlops_assets.definitions import build_defs

        build_defs(settings)  # what loading the code location would refuse
        profile = settings.profile() if settings.target == "databricks" else None
    except PlatformError as error:
        problem = error
    return diagnose(
        home=settings.home,
        java_home=settings.java_home,
        settings_problem=problem,
        profile=profile,
        credentials=settings.databricks_login(),
    )


def launch_limit(settings: Settings, instance: DagsterInstance) -> Iterator[Finding]:
    """Compare the limit of the pool of launches with what the profile wants; only a Dagster instance knows it."""
    if settings.target != "databricks":
        return
    storage = instance.event_log_storage
    limits = {pool.name: pool.limit for pool in storage.get_pool_limits()}
    found = limits.get(LAUNCH_POOL, storage.get_pool_config().default_pool_limit)
    wanted = settings.profile().max_concurrent_launches
    if found == wanted:
        yield _ok("launches", f"{wanted} at once")
        return
    is_now = "no limit" if found is None else f"a limit of {found}"
    fix = f"dagster instance concurrency set {LAUNCH_POOL} {wanted} (`make ui` sets it by itself)"
    yield Finding("warning", "launches", f"{is_now}, where the profile wants {wanted} at once; {fix}")


def main() -> int:
    """Diagnose the settings of the environment, print the findings, and return the exit code."""
    try:
        findings = examine(Settings.from_environment())
    except PlatformError as error:
        findings = diagnose(home=Path(".mlops"), java_home=None, settings_problem=error)
    text, code = report(findings)
    sys.stdout.write(f"{text}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
