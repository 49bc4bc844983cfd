"""One message for each failed run: to a webhook, or to the log without one.

What belongs here: the content of a message, and sending it. What does not: deciding whether to run again (Dagster's
retries, `landing`).
"""

from __future__ import annotations

import html
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import dagster as dg
from tenacity import Retrying, retry_if_exception_type, retry_if_result, stop_after_attempt, wait_chain, wait_fixed

from mlops_assets.errors import AutomationError
from mlops_assets.foreign_text import as_code

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

RUN_FAILED = "run_failed"
_TIMEOUT_S = 10.0
_TOO_MANY_REQUESTS, _SERVER_ERROR, _CLIENT_ERROR = 429, 500, 400


_REASON = 400


@dataclass(frozen=True)
class FailedRun:
    """The facts about a failed run that a person on call needs.

    Attributes:
        job: Name of the job, or `assets` for a run of Dagster's implicit asset job.
        run_id: The run.
        assets: The assets that failed, or all that the run selected.
        owners: Owners of the assets.
        reason: First line of the error.
        link: The run in the UI.
    """

    job: str
    run_id: str
    assets: tuple[str, ...]
    owners: tuple[str, ...]
    reason: str
    link: str

    @property
    def text(self) -> str:
        """The message in one line, as chat programs show it (Slack and similar programs read `text`)."""
        what = ", ".join(self.assets) or self.job
        owners = f" (owner: {', '.join(self.owners)})" if self.owners else ""
        # What was wrong may be a stranger's words: as code, and escaped as Slack demands, they mention nobody and are
        # no link.
        reason = html.escape(as_code(self.reason, _REASON), quote=False)
        return f"{what} failed{owners}: {reason} {self.link}"


def failure_reason(event: dg.DagsterEvent) -> str:
    """Return why a step failed: the text of the original error."""
    failure = event.step_failure_data
    if failure.user_failure_data is not None and failure.user_failure_data.description:
        return failure.user_failure_data.description
    return first_cause(failure.error)


def first_cause(error: Any) -> str:
    """Return the text of the error that led to an error.

    Args:
        error: As an event of Dagster has it, or None.
    """
    while error is not None and error.cause is not None:
        error = error.cause
    return str(error.message).strip() if error is not None else "no reason was given"


def describe(context: dg.RunFailureSensorContext, dagster_url: str) -> FailedRun:
    """Return the message about a failed run."""
    run, failures = context.dagster_run, list(context.get_step_failure_events())
    keys = {key for event in failures for key in _keys_of(context, event.step_key)} or set(run.asset_selection or ())
    graph = context.repository_def.asset_graph if context.repository_def is not None else None
    owners = {owner for key in keys if graph is not None and graph.has(key) for owner in graph.get(key).owners}
    reasons = [failure_reason(event) for event in failures] or [context.failure_event.message or "the run did not end"]
    return FailedRun(
        job="assets" if run.job_name.startswith("__") else run.job_name,
        run_id=run.run_id,
        assets=tuple(sorted(key.to_user_string() for key in keys)),
        owners=tuple(sorted(owners)),
        reason=reasons[0].strip().partition("\n")[0],
        link=f"{dagster_url.rstrip('/')}/runs/{run.run_id}",
    )


def _keys_of(context: dg.RunFailureSensorContext, step_key: str | None) -> set[dg.AssetKey]:
    """Return the assets that a step should have materialized, from the plan in the run's log."""
    planned = context.instance.all_logs(
        context.dagster_run.run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION_PLANNED
    )
    events = [entry.get_dagster_event() for entry in planned]
    return {event.asset_key for event in events if event.step_key == step_key and event.asset_key is not None}


def send(message: FailedRun, webhook: str, *, pauses: Sequence[float] = (1.0, 4.0, 10.0)) -> None:
    """Post a message as JSON: the fields of `FailedRun`, and `text`.

    Args:
        message: The message.
        webhook: Address; it is a secret, and errors show only its host.
        pauses: Seconds before each retry, when the receiver is busy or unreachable.

    Raises:
        AutomationError: The receiver did not accept the message.
    """
    import requests

    retrying = Retrying(
        retry=retry_if_exception_type(requests.RequestException)
        | retry_if_result(lambda status: status == _TOO_MANY_REQUESTS or status >= _SERVER_ERROR),
        wait=wait_chain(*map(wait_fixed, pauses or (0.0,))),
        stop=stop_after_attempt(len(pauses) + 1),
        # The last answer, or the last error.
        retry_error_callback=lambda state: state.outcome and state.outcome.result(),
    )
    body = {"text": message.text, **asdict(message)}
    try:
        status = retrying(lambda: requests.post(webhook, json=body, timeout=_TIMEOUT_S).status_code)
        problem = f"HTTP {status}" if status >= _CLIENT_ERROR else ""
    except requests.RequestException as error:
        problem = type(error).__name__
    if not problem:
        return
    raise AutomationError(
        f"the webhook did not accept a message ({problem}): {message.text}",
        where=urlsplit(webhook).hostname or "webhook",
        fix="compare MLOPS_ALERT_WEBHOOK with the receiver's address",
    ) from None


def failure_sensor(
    webhook: SecretStr | None, dagster_url: str, *, status: dg.DefaultSensorStatus
) -> dg.SensorDefinition:
    """Return a sensor that reports each failed run of this code location, whoever started it.

    Args:
        webhook: Address to send to; None writes to the sensor's log.
        dagster_url: Address of the UI.
        status: Whether it is on by default.
    """

    @dg.run_failure_sensor(
        name=RUN_FAILED,
        default_status=status,
        description="One message for each failed run: asset, owner, reason, link. "
        + ("Sent to the webhook." if webhook else "Written to the log; set MLOPS_ALERT_WEBHOOK to send it."),
    )
    def run_failed(context: dg.RunFailureSensorContext) -> None:
        message = describe(context, dagster_url)
        context.log.error(message.text)
        if webhook is not None:
            send(message, webhook.get_secret_value())

    return run_failed
