"""Which failures of a step are tried again, how often and when.

What belongs here: the limits, and asking Dagster for another attempt. What does not: which errors are transient
(`errors.PlatformError.transient`, set where an error is raised; `databricks/launch/failures` for ended clusters), runs
that are repeated by sensors and conditions (`automation`).

A failure asks for another attempt by itself (`dagster.RetryRequested`) instead of the asset having a retry policy. With
a policy, Dagster 1.13 also tries again what nobody should: a step that a person has cancelled
(`op_execution_error_boundary` in `dagster/_core/execution/plan/utils.py`), and a bug.
"""

from __future__ import annotations

import dagster as dg

# After half a minute, then after a minute and a half more. What lasts longer is for the next run.
RETRIES = dg.RetryPolicy(max_retries=2, delay=30, backoff=dg.Backoff.EXPONENTIAL)


def again(attempts: int, policy: dg.RetryPolicy | None = None) -> dg.RetryRequested:
    """Return what to raise, from the failure, so that Dagster tries a step again; after the last attempt it fails.

    Args:
        attempts: How many attempts came before this one.
        policy: The limits, if they are not `RETRIES`.
    """
    limits = policy or RETRIES
    return dg.RetryRequested(limits.max_retries, limits.calculate_delay(attempts + 1))
