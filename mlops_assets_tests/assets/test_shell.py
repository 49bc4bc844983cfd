"""The shell around assets: what Dagster sees of a decorated function, and that no asset goes without it."""

import inspect
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import dagster as dg
import pytest

from mlops_assets import retries
from mlops_assets.assets.shell import MARK, Results, asset_shell, function_of
from mlops_assets.automation.alerts import failure_reason, first_cause
from mlops_assets.definitions import build_defs
from mlops_assets.errors import SourceError, StorageError, TrackingError
from mlops_assets.lakehouse.commits import StaleBaseError
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.launcher import StepLauncherResource
from mlops_assets.settings import Settings
from mlops_assets_tests.assets.harness import HERE, Databases, spec_of
from mlops_assets_tests.test_definitions import LATE

SPEC = spec_of()


class Elsewhere(dg.ConfigurableResource[Any]):
    """Hands every asset over to a runner that yields one result."""

    def pipes(self, context: dg.AssetExecutionContext) -> "Elsewhere":
        del context
        return self

    def run(self, context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[None]]:
        del context
        yield dg.MaterializeResult(metadata={"ran": "elsewhere"})


@dataclass
class Tried:
    """How often a body was called."""

    times: int = 0
    log: list[str] = field(default_factory=list)


def no_session() -> Any:
    raise AssertionError("no Spark session is needed here")


def lakehouse_in(folder: Path) -> Lakehouse:
    return Lakehouse(spark=no_session, database="db", root=str(folder / "db"), locks=str(folder / "locks"))


def failing(error: Exception) -> Results:
    raise error


def metadata_of(asset: dg.AssetsDefinition, **resources: Any) -> dict[str, Any]:
    done = dg.materialize([asset], resources=resources, raise_on_error=False)
    assert done.success
    (event,) = done.get_asset_materialization_events()
    return {name: value.value for name, value in event.materialization.metadata.items()}


def failure_of(asset: dg.AssetsDefinition, **resources: Any) -> dg.Failure:
    with dg.build_asset_context(resources=resources) as context, pytest.raises(dg.Failure) as caught:
        list(cast("Any", asset(context)))
    return caught.value


class Width(dg.Config):
    """Config of the asset below."""

    width: int = 3


@dg.asset
@asset_shell(SPEC, runner="cluster")
def measured(
    context: dg.AssetExecutionContext, config: Width, words: dg.ResourceParam[str], cluster: StepLauncherResource
) -> Results:
    """Say what came in."""
    context.log.info(words)
    yield dg.MaterializeResult(metadata={"width": config.width, "words": words})


def executable(definitions: dg.Definitions) -> list[dg.AssetsDefinition]:
    """Return the assets that are made here, without what somebody else writes."""
    found = [asset for asset in definitions.assets or [] if isinstance(asset, dg.AssetsDefinition)]
    return [asset for asset in found if asset.is_executable]


def without_shell(definitions: dg.Definitions) -> list[str]:
    """Return the assets whose function was not decorated."""
    return [asset.node_def.name for asset in executable(definitions) if not hasattr(function_of(asset), MARK)]


def every_asset(settings: Settings, tmp_path: Path) -> dg.Definitions:
    """Return a code location in which every asset is: with a landing place and one of labels."""
    contract = tmp_path / "cards.yaml"
    contract.write_text(LATE)
    more = {"source": str(tmp_path / "in"), "labels": str(tmp_path / "labels"), "contract": str(contract)}
    return build_defs(settings.model_copy(update=more))


def test_every_asset_of_the_code_location_has_the_shell(settings: Settings, tmp_path: Path):
    definitions = every_asset(settings, tmp_path)

    assert len(executable(definitions)) == 8
    assert without_shell(definitions) == []


def test_an_asset_without_the_shell_is_noticed(settings: Settings, tmp_path: Path):
    @dg.asset
    def planted(context: dg.AssetExecutionContext) -> Results:
        context.log.info("no shell")
        yield dg.MaterializeResult()

    definitions = every_asset(settings, tmp_path)
    with_planted = dg.Definitions(assets=[*(definitions.assets or []), planted])

    assert without_shell(with_planted) == ["planted"]


def test_the_code_reference_of_an_asset_is_its_own_function(settings: Settings, tmp_path: Path):
    for asset in executable(every_asset(settings, tmp_path)):
        for spec in asset.specs:
            (place,) = spec.metadata["dagster/code_references"].code_references
            assert Path(place.file_path).name != "shell.py"
            assert f"def {asset.node_def.name}(" in Path(place.file_path).read_text()
            first = Path(place.file_path).read_text().splitlines()[place.line_number - 1]
            assert first.lstrip().startswith("@dg.")


def test_dagster_sees_config_and_resources_of_the_decorated_function():
    assert measured.required_resource_keys >= {"words", "cluster"}
    assert inspect.signature(function_of(measured)).parameters["config"].annotation is Width

    done = metadata_of(measured, words="in words", cluster=HERE)

    assert done == {"width": 3, "words": "in words"}


def test_an_asset_hands_over_to_the_runner_of_its_cluster():
    assert metadata_of(measured, words="", cluster=Elsewhere()) == {"ran": "elsewhere"}


def test_an_error_that_the_user_can_fix_names_the_model_and_is_not_retried():
    @dg.asset
    @asset_shell(spec_of(name="cards"), runner="cluster")
    def refused(context: dg.AssetExecutionContext, cluster: StepLauncherResource) -> Results:
        yield from failing(SourceError("it is empty", where="a.csv", fix="fill it"))

    told = failure_of(refused, cluster=HERE)

    assert told.description == "it is empty [a.csv] Fix: fill it"
    assert told.metadata["model"].value == "cards"
    assert told.allow_retries is False


def test_a_body_that_holds_the_lock_is_begun_again_when_another_writer_was_faster(tmp_path: Path):
    tried = Tried()

    @dg.asset
    @asset_shell(SPEC, runner="cluster", lock="raw")
    def slow(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Databases], cluster: StepLauncherResource
    ) -> Results:
        tried.times += 1
        if tried.times < 3:
            raise StaleBaseError("raw")
        with (
            pytest.raises(StorageError, match="another run has held the table"),
            lakehouse.lakehouse.exclusive("raw", 0),
        ):
            pass
        yield dg.MaterializeResult(metadata={"tried": tried.times})

    assert metadata_of(slow, lakehouse=Databases(lakehouse_in(tmp_path)), cluster=HERE) == {"tried": 3}


def test_a_writer_that_is_never_first_gives_up(tmp_path: Path):
    tried = Tried()

    @dg.asset
    @asset_shell(SPEC, runner="cluster", lock="raw")
    def late(
        context: dg.AssetExecutionContext, lakehouse: dg.ResourceParam[Databases], cluster: StepLauncherResource
    ) -> Results:
        tried.times += 1
        yield from failing(StaleBaseError("raw"))

    told = failure_of(late, lakehouse=Databases(lakehouse_in(tmp_path)), cluster=HERE)

    assert tried.times == 5
    assert told.description == "raw changed during each of 5 write attempts. Fix: stop other writers and run again"


# --- retries ----------------------------------------------------------------------------------------------------------

AWAY = TrackingError("the server does not answer", where="MLflow", fix="start it", transient=True)
STEP_ENDS = ("STEP_UP_FOR_RETRY", "STEP_SUCCESS", "STEP_FAILURE")


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of attempts is the real one; nobody waits for the next."""
    monkeypatch.setattr(retries, "RETRIES", dg.RetryPolicy(max_retries=retries.RETRIES.max_retries))


def run_with(*errors: BaseException) -> tuple[int, dg.ExecuteInProcessResult]:
    """Materialize an asset that fails with these errors, one an attempt; return its attempts, and how the run went."""
    left, tried = list(errors), Tried()

    @dg.asset
    @asset_shell(SPEC, runner="cluster")
    def fragile(context: dg.AssetExecutionContext, cluster: StepLauncherResource) -> Results:
        tried.times += 1
        if left:
            raise left.pop(0)
        yield dg.MaterializeResult()

    done = dg.materialize([fragile], resources={"cluster": HERE}, raise_on_error=False)
    return tried.times, done


def ends_of(done: dg.ExecuteInProcessResult) -> list[str]:
    return [event.event_type_value for event in done.all_events if event.event_type_value in STEP_ENDS]


@pytest.mark.usefixtures("at_once")
def test_a_transient_error_is_tried_again_and_may_succeed():
    times, done = run_with(AWAY)

    assert (times, done.success) == (2, True)
    assert ends_of(done) == ["STEP_UP_FOR_RETRY", "STEP_SUCCESS"]
    (again,) = [event for event in done.all_events if event.event_type_value == "STEP_UP_FOR_RETRY"]
    assert first_cause(again.step_retry_data.error).endswith("the server does not answer [MLflow] Fix: start it")


@pytest.mark.usefixtures("at_once")
def test_a_transient_error_that_stays_ends_after_the_limit_and_is_what_people_are_told():
    times, done = run_with(*[AWAY] * 9)

    assert (times, done.success) == (3, False)
    assert ends_of(done) == ["STEP_UP_FOR_RETRY", "STEP_UP_FOR_RETRY", "STEP_FAILURE"]
    (failed,) = done.get_step_failure_events()
    assert failure_reason(failed) == "the server does not answer [MLflow] Fix: start it"


@pytest.mark.usefixtures("at_once")
@pytest.mark.parametrize(
    "error",
    [
        SourceError("it is empty", where="a.csv", fix="fill it"),  # permanent
        KeyError("a bug"),
        dg.DagsterExecutionInterruptedError(),  # a person cancelled the run: a retry policy would go on
    ],
    ids=lambda error: type(error).__name__,
)
def test_anything_else_is_tried_once(error: BaseException):
    times, done = run_with(error, error)

    assert (times, done.success) == (1, False)
    assert ends_of(done) == ["STEP_FAILURE"]


def test_dagsters_own_policy_would_go_on_after_a_cancellation():
    """Why the shell asks for retries by itself; if this fails, a policy of the asset can replace it."""
    tried = Tried()

    @dg.asset(retry_policy=dg.RetryPolicy(max_retries=2))
    def cancelled() -> None:
        tried.times += 1
        raise dg.DagsterExecutionInterruptedError

    assert not dg.materialize([cancelled], raise_on_error=False).success
    assert tried.times == 3


def test_attempts_follow_after_half_a_minute_and_after_a_minute_and_a_half():
    first, second = retries.again(0), retries.again(1)

    assert [(found.max_retries, found.seconds_to_wait) for found in (first, second)] == [(2, 30), (2, 90)]


def test_no_asset_of_the_code_location_has_a_retry_policy(settings: Settings, tmp_path: Path):
    found = executable(every_asset(settings, tmp_path))

    assert [asset.op.retry_policy for asset in found] == [None] * 8


@pytest.mark.parametrize("lock", ["", "raw"])
def test_a_function_without_what_the_shell_needs_is_refused_when_it_is_decorated(lock: str):
    def bare(context: dg.AssetExecutionContext) -> Results:
        yield dg.MaterializeResult()

    with pytest.raises(TypeError, match="bare has no parameter cluster" + (", lakehouse" if lock else "")):
        asset_shell(SPEC, runner="cluster", lock=lock)(bare)


@dg.asset(key=["cards", "tuned_model"])
@asset_shell(spec_of(name="cards"), runner="cluster")
def trained(context: dg.AssetExecutionContext, cluster: StepLauncherResource) -> Results:
    """Name what a model was made from."""
    context.log.info("trained")
    yield dg.MaterializeResult(metadata={"raw_version": 3, "mlflow_run_id": "abc"})


@dg.asset(key=["cards", "raw_transactions"])
@asset_shell(spec_of(name="cards"), runner="cluster")
def loaded(context: dg.AssetExecutionContext, cluster: StepLauncherResource) -> Results:
    """Be the raw table, whose own version counts."""
    context.log.info("loaded")
    yield dg.MaterializeResult(asset_key=["cards", "raw_transactions"], metadata={"delta_version": 4})


@dg.asset
@asset_shell(spec_of(name="cards"), runner="cluster")
def broken(context: dg.AssetExecutionContext, cluster: StepLauncherResource) -> Results:
    """Fail before anything is known."""
    context.log.info("broken")
    yield from failing(SourceError("gone", where="a.csv", fix="bring it"))


@pytest.mark.parametrize(
    ("asset", "expected"),
    [
        (trained, {"mlops_assets/raw_version": "3", "mlops_assets/mlflow_run": "abc"}),
        (loaded, {"mlops_assets/raw_version": "4"}),
        (broken, {}),
    ],
)
def test_a_run_is_tagged_with_its_model_and_what_it_names(asset: dg.AssetsDefinition, expected: dict[str, str]):
    with dg.DagsterInstance.ephemeral() as instance:
        done = dg.materialize([asset], resources={"cluster": HERE}, instance=instance, raise_on_error=False)
        run = instance.get_run_by_id(done.run_id)

    assert run is not None
    tags = {name: tag for name, tag in run.tags.items() if name.startswith("mlops_assets/")}
    assert tags.pop("mlops_assets/process").split(":")[1] == str(os.getpid()), "no other tag names its process"
    assert tags == {"mlops_assets/model": "cards", **expected}


def test_a_direct_invocation_has_no_run_to_tag():
    with dg.build_asset_context(resources={"cluster": HERE}) as context:
        (result,) = list(cast("Any", trained(context)))
        assert context.instance.get_runs() == []

    assert isinstance(result, dg.MaterializeResult)
