"""Approval: a challenger that passed the gate waits for persons before it becomes champion.

What belongs here: who has approved what, and whether that is enough. What does not: the gate, the alias
(`alias_moves`).

Tags of the version hold it: how many approvals it waits for and against which champion it passed, who trained it, who
approved. `Approval_Check: Approved` is Databricks' own convention for deployment jobs. Whoever trained a version does
not count. The names are those that the operating system gives: local users are not authenticated.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import APPROVALS_TAG, APPROVED_BY_TAG, GATE_REASON_TAG, REGISTERED_BY_TAG, VERDICT_FILE
from mlops_assets.registry.alias_moves import ChampionLedger, Move
from mlops_assets.registry.golden import folder_of, require_golden
from mlops_assets.registry.ledger import NOBODY
from mlops_assets.registry.verified import load_verified
from mlops_assets.registry.versions import CHAMPION, by_alias
from mlops_assets.tracking.artifacts import read_artifact
from mlops_assets.tracking.provenance import this_actor

if TYPE_CHECKING:
    from mlops_assets.registry.versions import Version

APPROVAL_CHECK: Final = "Approval_Check"
_APPROVED: Final = "Approved"


def wait_for_approval(ledger: ChampionLedger, version: Version, champion: Version | None, approvals: int) -> None:
    """Have a version wait for approvals; earlier ones no longer count, because the verdict is a new one.

    Args:
        ledger: Of the model.
        version: The version that passed.
        champion: What it was compared with; None if there was none.
        approvals: How many persons must approve.

    Raises:
        TrackingError: MLflow can't be reached.
    """
    against = NOBODY if champion is None else champion.number
    tags = {
        APPROVALS_TAG: json.dumps({"needed": approvals, "champion": against}),
        APPROVED_BY_TAG: "[]",
        APPROVAL_CHECK: "Pending",
    }
    with ledger.store.answering():
        for name, value in tags.items():
            ledger.store.client.set_model_version_tag(version.name, str(version.number), name, value)


def approve(ledger: ChampionLedger, number: int, reason: str) -> tuple[int, int]:
    """Approve a version that waits, and make it champion if that was the last approval that it needed.

    Args:
        ledger: Of the model; its lock is held.
        number: The version.
        reason: One line for the ledger.

    Returns:
        How many have approved, and how many must.

    Raises:
        TrackingError: It does not wait; the same person has trained or approved it; the champion is another one than it
            was compared with; or it is not what was registered.
        LedgerError: The ledger is not what was written.
    """
    store, name = ledger.store, ledger.name
    ledger.settle()
    model = load_verified(store, name, number)
    tags = model.version.tags
    where = f"{name} version {number}"
    waits = json.loads(tags.get(APPROVALS_TAG) or "{}")
    if not waits or tags.get(APPROVAL_CHECK) == _APPROVED:
        raise _refused("it does not wait for approval", where, "look at its gate: `mlops champion`, or its tags")
    with store.answering():
        held = by_alias(store, name, CHAMPION)
    if (NOBODY if held is None else held.number) != waits["champion"]:
        raise _refused(
            "the champion is not the one that it was compared with", where, "materialize `registered_model` again"
        )
    me, approved = this_actor(), json.loads(tags.get(APPROVED_BY_TAG) or "[]")
    if me == tags.get(REGISTERED_BY_TAG):
        raise _refused(f"{me} has trained it", where, "have another person approve it")
    if me in approved:
        raise _refused(f"{me} has approved it already", where, "have another person approve it, too")
    approved.append(me)
    with store.answering():
        store.client.set_model_version_tag(name, str(number), APPROVED_BY_TAG, json.dumps(approved))
    if len(approved) >= waits["needed"]:
        require_golden(store, model)
        verdict = read_artifact(store, model.version.run_id, f"{folder_of(number)}/{VERDICT_FILE}").decode()
        text = f"{tags.get(GATE_REASON_TAG, '')}; approved by {', '.join(approved)}: {reason}"
        ledger.move(number, Move("approved", text, verdict))
        with store.answering():
            store.client.set_model_version_tag(name, str(number), APPROVAL_CHECK, _APPROVED)
    return len(approved), int(waits["needed"])


def _refused(what: str, where: str, fix: str) -> TrackingError:
    return TrackingError(f"the version can't be approved: {what}", where=where, fix=fix)
