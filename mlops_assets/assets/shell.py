"""What every asset does around its own work: hand over to a cluster, lock, tag the run, show readable errors, retry.

What belongs here: the decorator for it, and what the code that binds assets must know about a decorated function. What
does not: an asset's own work, how a conflict of two writers is detected (`lakehouse`).
"""

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec, cast

import dagster as dg
from tenacity import Retrying, retry_if_exception_type, stop_after_attempt

from mlops_assets.assets.reporting import REFUSED_INPUT
from mlops_assets.assets.run_tags import tagging
from mlops_assets.errors import PlatformError, SchemaMismatchError, SourceError, UnreachableError
from mlops_assets.lakehouse.commits import StaleBaseError
from mlops_assets.lakehouse.damage import damage_of
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.retries import again
from mlops_assets.spec import FraudModelSpec

Results = Iterator[dg.MaterializeResult[None] | dg.AssetMaterialization | dg.AssetCheckResult | dg.AssetObservation]
_P = ParamSpec("_P")
_ATTEMPTS = 5
_INPUT_ERRORS = (SchemaMismatchError, SourceError)
# A decorated function has this attribute; a test looks for it on every asset of the code location.
MARK = "in_asset_shell"


def asset_shell(
    spec: FraudModelSpec, *, runner: str = "", lock: str = "", config: type[dg.Config] | None = None
) -> Callable[[Callable[_P, Results]], Callable[_P, Results]]:
    """Return the decorator that goes below `dg.asset` or `dg.multi_asset`.

    Dagster sees the decorated function's own parameters and annotations. The shell finds the ones it needs by name,
    except the context, which comes first; with `lock` there must be a parameter `lakehouse`.

    Args:
        spec: The model that the asset is made for; its failures name it.
        runner: Parameter with the resource that may run the asset elsewhere (`StepLauncherResource.pipes`); without it
            the asset always runs where Dagster runs.
        lock: Table whose write lock the function holds. The function must not yield before it has committed: if another
            writer was faster, it is called again.
        config: Class that Dagster sees as the annotation of the parameter `config`: a subclass with the model's own
            defaults.

    Raises:
        TypeError: The function lacks a parameter that the shell needs.
    """

    def decorate(asset: Callable[_P, Results]) -> Callable[_P, Results]:
        signature = inspect.signature(asset)
        needed = {*([runner] if runner else []), *(["lakehouse"] if lock else []), *(["config"] if config else [])}
        missing = needed - set(signature.parameters)
        if missing:
            raise TypeError(f"{asset.__qualname__} has no parameter {', '.join(sorted(missing))}")

        @wraps(asset)
        def in_shell(*args: _P.args, **kwargs: _P.kwargs) -> Results:
            given = signature.bind(*args, **kwargs).arguments
            context = next(iter(given.values()))
            if runner and (elsewhere := given[runner].pipes(context)):
                with retried(context):
                    yield from tagging(context, spec, elsewhere.run(context))
                return
            with retried(context), readable_errors(spec.name):
                if lock:
                    database = given["lakehouse"].open(spec)
                    results = with_write_lock(context, database, lock, lambda: asset(*args, **kwargs))
                else:
                    results = asset(*args, **kwargs)
                yield from tagging(context, spec, results)

        setattr(in_shell, MARK, True)
        if config is not None:
            given_config = signature.parameters["config"].replace(annotation=config)
            seen = {**signature.parameters, "config": given_config}
            setattr(in_shell, "__signature__", signature.replace(parameters=list(seen.values())))  # noqa: B010 - no type has it
        return in_shell

    return decorate


@contextmanager
def readable_errors(model: str = "") -> Iterator[None]:
    """Show an error that the user can fix as one message, damage on disk included; a permanent one is not tried again.

    Args:
        model: Name of the model to add to the error's metadata; empty for none.

    Raises:
        dagster.Failure: With `allow_retries` if the error is transient.
    """
    try:
        try:
            yield
        except (PlatformError, dg.Failure, dg.RetryRequested):
            raise
        except Exception as error:
            damage = damage_of(error)
            if damage is None:
                raise
            raise damage from None
    except PlatformError as error:
        metadata: dict[str, Any] = {"what": error.what, "where": error.where, "fix": error.fix}
        if model:
            metadata["model"] = model
        if error.diff:
            metadata["differences"] = dg.MetadataValue.md(error.diff)
        if isinstance(error, _INPUT_ERRORS) and not isinstance(error, UnreachableError):
            metadata[REFUSED_INPUT] = True
        raise dg.Failure(str(error), metadata=metadata, allow_retries=error.transient) from error


@contextmanager
def retried(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Try a step again after a failure that allows it, as often as `retries.RETRIES` says.

    Anything else passes: permanent failures, interrupts, and errors that nobody expected, which are bugs.

    Args:
        context: The asset's; with that of a direct invocation, no attempt follows.

    Raises:
        dagster.RetryRequested: From the failure.
    """
    try:
        yield
    except dg.Failure as failure:
        if not failure.allow_retries:
            raise
        try:
            step = context.op_execution_context.get_step_execution_context()
        except dg.DagsterError:  # a direct invocation is no step
            raise failure from None
        raise again(step.previous_attempt_count) from failure


def with_write_lock(
    context: dg.AssetExecutionContext, lakehouse: Lakehouse, table: str, write: Callable[[], Results]
) -> Results:
    """Yield what a write yields while it holds the table's lock; read and write again if another writer was faster.

    Args:
        context: For the log.
        lakehouse: The database.
        table: Table name.
        write: Reads the table, and commits what it decided from that.

    Raises:
        dg.Failure: Other writers were faster at every attempt.
    """
    retrying = Retrying(
        retry=retry_if_exception_type(StaleBaseError),
        stop=stop_after_attempt(_ATTEMPTS),
        after=lambda state: context.log.info(
            f"another writer was faster (attempt {state.attempt_number} of {_ATTEMPTS}): starting over"
        ),
        reraise=True,
    )
    try:
        for attempt in retrying:
            with attempt, lakehouse.exclusive(table):
                yield from write()
    except StaleBaseError as error:
        what = f"{table} changed during each of {_ATTEMPTS} write attempts. Fix: stop other writers and run again"
        raise dg.Failure(what) from error


def function_of(asset: dg.AssetsDefinition) -> Callable[..., Any]:
    """Return the function that Dagster calls for an asset."""
    function: Callable[..., Any] = cast("Any", asset.op.compute_fn).decorated_fn
    return function


def code_reference(asset: dg.AssetsDefinition) -> dict[str, dg.CodeReferencesMetadataValue]:
    """Return metadata with a link to an asset's own function; Dagster's decorator would link to this file."""
    return reference_to(inspect.unwrap(function_of(asset)))


def reference_to(function: Any) -> dict[str, dg.CodeReferencesMetadataValue]:
    """Return metadata with a link to a function in the local files."""
    code = function.__code__
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", dg.BetaWarning)  # two per asset at each load, and users can't fix them
        place = dg.LocalFileCodeReference(
            file_path=str(Path(code.co_filename).absolute()), line_number=code.co_firstlineno
        )
        return {"dagster/code_references": dg.CodeReferencesMetadataValue(code_references=[place])}
