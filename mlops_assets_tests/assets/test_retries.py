"""A real asset whose storage fails: what passes is tried again, what doesn't is not, and nothing is loaded twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem

from mlops_assets import retries
from mlops_assets.assets.raw_transactions import RAW, build_raw_transactions
from mlops_assets.assets.sources import FileTransactions
from mlops_assets.automation.outcomes import was_refused
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests.assets.harness import HERE, Databases, spec_of, transactions, write_csv


class Fragile(LocalFileSystem):
    """Files on a storage that does not answer some times."""

    protocol = "fragile"
    errors: ClassVar[list[Exception]] = []
    asked: ClassVar[int] = 0

    def open(self, path: str, *args: Any, **kwargs: Any) -> Any:
        type(self).asked += 1
        if self.errors:
            raise self.errors.pop(0)
        return super().open(path, *args, **kwargs)


def loaded(
    lakehouse: Lakehouse, tracking: Tracking, instance: dg.DagsterInstance, files: list[Path], *errors: Exception
) -> dg.ExecuteInProcessResult:
    """Load files from a storage that raises these errors first."""
    fsspec.register_implementation("fragile", Fragile, clobber=True)
    Fragile.errors, Fragile.asked = list(errors), 0
    source = FileTransactions(location=",".join(f"fragile://{path}" for path in files))
    asset = build_raw_transactions(spec_of(), source)
    resources = {"lakehouse": Databases(lakehouse), "tracking": tracking, "loader_cluster": HERE}
    config = {"ops": {RAW: {"config": {"source": {"location": source.location}}}}}
    return dg.materialize([asset], resources=resources, instance=instance, raise_on_error=False, run_config=config)


def ends_of(done: dg.ExecuteInProcessResult) -> list[str]:
    ends = ("STEP_UP_FOR_RETRY", "STEP_SUCCESS", "STEP_FAILURE")
    return [event.event_type_value for event in done.all_events if event.event_type_value in ends]


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "RETRIES", dg.RetryPolicy(max_retries=retries.RETRIES.max_retries))


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    """Two files."""
    paths = [tmp_path / name for name in ("a.csv", "b.csv")]
    for seed, path in enumerate(paths, 1):
        write_csv(transactions(seed=seed), path)
    return paths


def test_a_storage_that_answers_at_the_second_attempt_loads_every_file_once(
    lakehouse: Lakehouse, tracking: Tracking, instance: dg.DagsterInstance, files: list[Path]
):
    done = loaded(lakehouse, tracking, instance, files, ConnectionResetError("reset by peer"))

    assert ends_of(done) == ["STEP_UP_FOR_RETRY", "STEP_SUCCESS"]
    table = lakehouse.require(RAW, made_by=RAW)
    assert lakehouse.read(RAW, table.version).count() == 1_200


def test_a_storage_that_never_answers_fails_after_the_limit_and_blames_no_input(
    lakehouse: Lakehouse, tracking: Tracking, instance: dg.DagsterInstance, files: list[Path]
):
    done = loaded(lakehouse, tracking, instance, files[:1], *[ConnectionResetError("reset by peer")] * 9)

    assert (ends_of(done), Fragile.asked) == (["STEP_UP_FOR_RETRY", "STEP_UP_FOR_RETRY", "STEP_FAILURE"], 3)
    (failed,) = done.get_step_failure_events()
    told = failed.step_failure_data.user_failure_data
    assert told is not None
    assert "ConnectionResetError: reset by peer" in str(told.description)
    assert not was_refused(instance, done.run_id, spec_of())


@pytest.mark.parametrize("kind", ["denied", "refused"])
def test_a_file_that_may_not_be_read_or_is_wrong_is_tried_once(
    lakehouse: Lakehouse, tracking: Tracking, instance: dg.DagsterInstance, files: list[Path], kind: str
):
    errors = [PermissionError(13, "no")] * 9 if kind == "denied" else []
    write_csv(transactions().drop_columns(["v1"]), files[0])

    done = loaded(lakehouse, tracking, instance, files[:1], *errors)

    assert (ends_of(done), Fragile.asked) == (["STEP_FAILURE"], 1)
    assert was_refused(instance, done.run_id, spec_of()) == (kind == "refused")
