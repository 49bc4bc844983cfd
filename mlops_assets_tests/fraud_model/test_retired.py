"""Automation of a retired model, as its definitions bind it: the registry is asked when something would start."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

import dagster as dg
import pytest

from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.retired import retired
from mlops_assets.fraud_model.shared import build_shared
from mlops_assets.registry.retirement import bring_back, retire
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import spec_of

SPEC = spec_of(name="cards")


def test_a_mark_in_the_registry_is_seen_and_so_is_its_removal(tracking: Tracking, settings: Settings):
    ask, store = retired(SPEC, settings), tracking.connect(SPEC.experiment)
    assert ask() == ""

    mark = retire(store, SPEC.registered_model)
    assert ask() == f"model cards was retired on {mark.since}; `mlops retire --undo` brings it back"

    bring_back(store, SPEC.registered_model)
    assert ask() == ""


def test_a_registry_that_can_not_be_reached_stops_nothing_and_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    away = Settings(home=tmp_path, tracking_uri="http://127.0.0.1:9")

    with caplog.at_level(logging.WARNING):
        assert retired(SPEC, away)() == ""

    assert "whether model cards is retired can't be read: the MLflow server does not answer" in caplog.text


def test_a_schedule_starts_nothing_of_it(tracking: Tracking, settings: Settings, instance: dg.DagsterInstance):
    location = dg.Definitions.merge(build_shared(settings, lambda: None), build_fraud_model(SPEC, settings))
    repository = location.get_repository_def()
    schedule = repository.get_schedule_def("cards__weekly_upkeep")
    store = tracking.connect(SPEC.experiment)

    def starts() -> int:
        sunday = datetime(2026, 1, 4, 3, tzinfo=UTC)
        with dg.build_schedule_context(instance, scheduled_execution_time=sunday, repository_def=repository) as clock:
            return len(schedule.evaluate_tick(clock).run_requests or [])

    assert starts() == 1
    retire(store, SPEC.registered_model)
    assert starts() == 0
    bring_back(store, SPEC.registered_model)
    assert starts() == 1
