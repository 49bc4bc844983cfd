"""How a run that was asked for ended: done, refused because of its input, or failed for another reason.

What belongs here: reading it from Dagster. What does not: what follows from it (`landing`, `watched_table`,
`conditions`).

A refused input, from the file to the model:

- Its verdicts are an observation of the table, not checks of it: they block nothing downstream.
- Good inputs of the same run are committed. The table is materialized and its checks judge it as after any load.
- The run fails all the same, once, after it has reported everything: someone is alerted, and the failure's metadata
  says that the input is to blame (`REFUSED_INPUT`).
- `landing` then splits the run's files in half, each half a run of its own, until the bad file is alone. That run
  writes nothing, so the table's checks do not run in it. Alone, the file is set aside until it changes.
- `conditions` pass over refused runs: the last verdict on the table counts. Past any other run that ended before the
  checks (killed, out of memory) they wait for the repeat, because such a run may have committed rows that no check has
  seen.
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.reporting import REFUSED_INPUT
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.automation.landing import Outcome
from mlops_assets.dagster_internals import RUN_KEY_TAG
from mlops_assets.spec import FraudModelSpec

GOING = (
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
)


def outcome_of(instance: dg.DagsterInstance, key: str, spec: FraudModelSpec) -> Outcome | None:
    """Return the outcome of a model's run with a run key; None if there is no such run.

    Args:
        instance: Where the run is.
        key: The key as a decision has it; two models may load the same files.
        spec: The model.

    A run counts as refused, rather than failed, when its loading step blamed the input, and as died when it ended
    without a word of its steps: its process was killed, for want of memory perhaps.
    """
    runs = instance.get_runs(dg.RunsFilter(tags={RUN_KEY_TAG: spec.prefixed(key)}), limit=1)
    if not runs:
        return None
    run = runs[0]
    if run.status is dg.DagsterRunStatus.SUCCESS:
        return "done"
    if run.status in GOING:
        return "going"
    if was_refused(instance, run.run_id, spec):
        return "refused"
    failures = instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    return "failed" if failures or run.status is dg.DagsterRunStatus.CANCELED else "died"


def was_refused(instance: dg.DagsterInstance, run_id: str, spec: FraudModelSpec) -> bool:
    """Return whether a run failed because its loading step blamed the input.

    Args:
        instance: Where the run is.
        run_id: The run.
        spec: The model.
    """
    steps = (spec.prefixed(RAW), spec.prefixed(TRANSACTION_LABELS))
    failures = instance.all_logs(run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
    for entry in failures:
        event = entry.get_dagster_event()
        failure = event.step_failure_data.user_failure_data
        if event.step_key in steps and failure is not None and REFUSED_INPUT in failure.metadata:
            return True
    return False
