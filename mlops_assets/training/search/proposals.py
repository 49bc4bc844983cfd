"""Search space, points and trials in hyperopt's terms, and back.

What belongs here: translation only. What does not: the bounds (`space`), running a search (`search`).

`fmin` returns the *index* of a chosen option for `hp.choice`; taking that for the value is how the seed project came
to register models it never tuned. Integers are `hp.uniformint` here, and every point goes through `space_eval`.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from hyperopt import STATUS_FAIL, STATUS_OK, hp, space_eval
from hyperopt.base import JOB_STATE_DONE

from mlops_assets.errors import SearchError
from mlops_assets.training.records import TrialRecord
from mlops_assets.training.space import WHOLE_NUMBERS, Point, Range, SearchSpace

Document = dict[str, Any]


def to_hyperopt(space: SearchSpace) -> dict[str, Any]:
    """Return the space as hyperopt expressions; a fixed parameter is a constant."""
    expressions: dict[str, Any] = {}
    for item in fields(space):
        bounds: Range = getattr(space, item.name)
        if bounds.low == bounds.high:
            expressions[item.name] = bounds.low
        elif item.name in WHOLE_NUMBERS:
            expressions[item.name] = hp.uniformint(item.name, int(bounds.low), int(bounds.high))
        else:
            expressions[item.name] = hp.uniform(item.name, bounds.low, bounds.high)
    return expressions


def decode(space: SearchSpace, proposed: dict[str, Any]) -> Point:
    """Return the point behind hyperopt's raw values (`fmin`'s result, or a trial's `misc.vals` unpacked)."""
    return to_point(space_eval(to_hyperopt(space), proposed))


def to_point(values: dict[str, Any]) -> Point:
    """Return evaluated values (what an objective receives) as a point."""
    return Point(
        max_depth=int(values["max_depth"]),
        n_estimators=int(values["n_estimators"]),
        learning_rate=float(values["learning_rate"]),
        reg_alpha=float(values["reg_alpha"]),
        base_score=float(values["base_score"]),
    )


def raw_values(document: Document) -> dict[str, Any]:
    """Return hyperopt's raw values of a trial document; fixed parameters are not among them."""
    return {name: found[0] for name, found in document["misc"]["vals"].items() if found}


def to_record(document: Document, space: SearchSpace) -> TrialRecord:
    """Return the record of a trial document that is done."""
    result = document["result"]
    good = result["status"] == STATUS_OK
    return TrialRecord(
        number=int(document["tid"]),
        point=decode(space, raw_values(document)),
        state="failed" if not good else "pruned" if result["pruned"] else "finished",
        value=result["value"] if good else None,
        loss=result["loss"] if good else None,
        seconds=float(result.get("seconds", 0.0)),
        rounds=int(result["rounds"]) if good else 0,
        curve=tuple((int(rounds), float(value)) for rounds, value in result["curve"]) if good else (),
        error=result.get("error", ""),
    )


def to_document(record: TrialRecord, space: SearchSpace) -> Document:
    """Return a trial of an earlier search as the document that TPE would have of it, had it been tried just now.

    Raises:
        SearchError: The trial is not one of this space.
    """
    tid = record.number
    values = record.point.as_dict()
    free = [name for name, (low, high) in space.as_dict().items() if low != high]
    # hyperopt's whole numbers are floats before they are decoded.
    raw = {name: [float(values[name])] for name in free}
    document = {
        "state": JOB_STATE_DONE,
        "tid": tid,
        "spec": None,
        "result": _result(record),
        "misc": {"tid": tid, "cmd": None, "workdir": None, "idxs": {name: [tid] for name in free}, "vals": raw},
        "exp_key": None,
        "owner": None,
        "version": 0,
        "book_time": None,
        "refresh_time": None,
    }
    inside = all(low <= values[name] <= high for name, (low, high) in space.as_dict().items())
    if not inside or decode(space, raw_values(document)) != record.point:
        raise SearchError(
            f"trial {tid} tried {record.point}, which is not in the space of this search",
            where=record.resumed_from or "earlier search",
            fix="resume searches of the same key only",
        )
    return document


def _result(record: TrialRecord) -> dict[str, Any]:
    if record.state == "failed":
        return {"status": STATUS_FAIL, "error": record.error, "seconds": record.seconds}
    return {
        "status": STATUS_OK,
        "loss": record.loss,
        "value": record.value,
        "rounds": record.rounds,
        "curve": [list(point) for point in record.curve],
        "pruned": record.state == "pruned",
        "seconds": record.seconds,
    }
