"""A table of a catalog as a source, seen from where Dagster runs: only its entry, through the tables API."""

from __future__ import annotations

from pathlib import Path

import pytest

from databricks_loopback import Workspace
from databricks_loopback.wire import ApiError
from mlops_assets.data.sources.arrivals import CHANGE_DATA_FEED
from mlops_assets.definitions import build_defs
from mlops_assets.diagnostics.checkup import examine
from mlops_assets.settings import Settings

SCHEMA = "main.sales"


@pytest.fixture
def settings(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", workspace.host)
    monkeypatch.setenv("DATABRICKS_TOKEN", workspace.token)
    workspace.catalog.add_schema(SCHEMA)
    for name, properties in (("payments", {CHANGE_DATA_FEED: "true"}), ("plain", {})):
        try:
            workspace.catalog.table(f"{SCHEMA}.{name}")
        except ApiError:
            workspace.catalog.add_table(f"{SCHEMA}.{name}", properties)
    return Settings(home=tmp_path, target="databricks", source=f"table:{SCHEMA}.payments")


def said(settings: Settings) -> str:
    found = {finding.subject: finding for finding in examine(settings, lambda: build_defs(settings))}
    return str(found["source"])


def test_the_doctor_asks_the_catalog(workspace: Workspace, settings: Settings):
    assert said(settings) == f"ok      source: {SCHEMA}.payments is there, with a change data feed"
    plain = settings.model_copy(update={"source": f"table:{SCHEMA}.plain"})
    assert f"ALTER TABLE {SCHEMA}.plain SET TBLPROPERTIES ({CHANGE_DATA_FEED} = true)" in said(plain)
    missing = settings.model_copy(update={"source": f"table:{SCHEMA}.none"})
    assert said(missing).startswith("error   source: main.sales.none: Table 'main.sales.none' does not exist")
    user = "engineer@example.com"
    workspace.catalog.revoke("SELECT", f"{SCHEMA}.payments", user)
    try:
        assert "User does not have SELECT on Table 'main.sales.payments'" in said(settings)
    finally:
        workspace.catalog.grant("SELECT", f"{SCHEMA}.payments", user)


def test_other_sources_do_not_ask(workspace: Workspace, settings: Settings):
    other = settings.model_copy(update={"source": "synthetic"})
    found = {finding.subject for finding in examine(other, lambda: build_defs(other))}
    assert "source" not in found
    assert workspace.calls.matching("GET", "/api/2.1/unity-catalog/tables/*") == []
