"""Whoever may start a run can't lead the platform's connections elsewhere, or read its environment."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from mlops_assets.definitions import build_defs
from mlops_assets.resources.connection import Connection
from mlops_assets.settings import Settings

VALUE = "20261130"  # also a number, which a form with numbers would take
EVIL = {"host": "http://evil.example"}


@pytest.fixture
def definitions(tmp_path: Path) -> dg.Definitions:
    return build_defs(Settings(home=tmp_path, source=str(tmp_path)))


def refused(job: dg.JobDefinition, config: dict[str, Any]) -> str:
    """Return why a run's config is not valid; empty if it is."""
    try:
        dg.validate_run_config(job, config)
    except dg.DagsterInvalidConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("resource", "config"),
    [
        ("tracking", {"mlflow_tracking_uri": "http://evil.example"}),
        ("tracking", {"mlflow_tracking_uri": "sqlite:///x", "mlflow_registry_uri": {"env": "DATABRICKS_TOKEN"}}),
        ("lakehouse", {"root": "/elsewhere"}),
        ("lakehouse", {"spark": {"extra_conf": {"spark.jars": "http://evil.example/evil.jar"}}}),
        ("loader_cluster", {"cost_class": "loader", "profile": EVIL, "token": {"env": "DATABRICKS_TOKEN"}}),
        ("trials_cluster", {"cost_class": "trials", "packages": ["somebody_elses"]}),
    ],
)
def test_a_run_cant_change_a_connection(definitions: dg.Definitions, resource: str, config: dict[str, Any]):
    job = definitions.resolve_job_def("main")

    assert "unexpected config entr" in refused(job, {"resources": {resource: {"config": config}}})
    assert refused(job, {"resources": {resource: {"config": {}}}}) == ""


@pytest.mark.parametrize(
    ("op", "config"),
    [
        ("raw_transactions", {"source": {"location": {"env": "DATABRICKS_TOKEN"}}}),
        ("raw_transactions", {"accept_changes": {"env": "DATABRICKS_TOKEN"}}),
        ("raw_transactions", {"revert": [{"env": "DATABRICKS_TOKEN"}]}),
        ("raw_transactions", {"replay": {"env": "DATABRICKS_TOKEN"}}),
        ("tuned_model", {"seed": {"env": "DATABRICKS_TOKEN"}}),
    ],
)
def test_a_run_cant_read_the_environment(
    definitions: dg.Definitions, monkeypatch: pytest.MonkeyPatch, op: str, config: dict[str, Any]
):
    monkeypatch.setenv("DATABRICKS_TOKEN", VALUE)

    reason = refused(definitions.resolve_job_def("main"), {"ops": {op: {"config": config}}})

    assert reason
    assert VALUE not in reason


def sources_of_variables(kind: Any, path: str) -> Iterator[str]:
    """Yield the fields of a config type that take `{env: NAME}`."""
    if type(kind).__name__.endswith("SourceType"):
        yield path
    for name, field in getattr(kind, "fields", {}).items():
        yield from sources_of_variables(field.config_type, f"{path}.{name}")
    if hasattr(kind, "inner_type"):
        yield from sources_of_variables(kind.inner_type, f"{path}[]")


def form_of(node: Any) -> Any:
    """Return the type of an op's config."""
    return node.config_schema.as_field().config_type


@pytest.mark.parametrize("target", ["local", "databricks"])
def test_no_form_of_any_job_takes_a_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any):
    monkeypatch.setenv("DATABRICKS_TOKEN", VALUE)
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    settings = Settings(home=tmp_path, source=str(tmp_path), target=target)
    repository = build_defs(settings).get_repository_def()
    found = [
        path
        for job in repository.get_all_jobs()
        for node in job.nodes
        for path in sources_of_variables(form_of(node.definition), f"{job.name}.{node.name}")
    ]

    assert len(repository.get_all_jobs()) > 5
    assert found == []


def test_what_a_run_may_choose_is_still_taken(definitions: dg.Definitions, tmp_path: Path):
    ops = {
        "raw_transactions": {"config": {"source": {"location": str(tmp_path / "day1.csv")}, "revert": None}},
        "tuned_model": {"config": {"seed": 7}},
    }

    assert refused(definitions.resolve_job_def("main"), {"ops": ops}) == ""


def test_a_connection_still_resolves_what_the_code_location_reads(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DATABRICKS_TOKEN", VALUE)
    seen: list[tuple[str, str]] = []

    class Cluster(Connection):
        token: str
        host: str = "http://default"

    @dg.op
    def look(cluster: Cluster) -> None:
        seen.append((cluster.token, cluster.host))

    @dg.job(resource_defs={"cluster": Cluster(token=dg.EnvVar("DATABRICKS_TOKEN"))})
    def looking() -> None:
        look()

    looking.execute_in_process()

    assert seen == [(VALUE, "http://default")]
