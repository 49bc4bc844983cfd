"""Translating search space, points and trials to hyperopt's terms and back.

What belongs here: translation only. What does not: the bounds (`space`), running a search (`search`).

For `hp.choice`, `fmin` returns the *index* of the chosen option; the seed project took it for the value, and so
registered models that it had never tuned. Here integers are `hp.uniformint`, and every point goes through `space_eval`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from hyperopt import STATUS_FAIL, STATUS_OK, hp, space_eval, tpe
from hyperopt.base import JOB_STATE_DONE

from mlops_assets.errors import SearchError
from mlops_assets.training.records import FoldRecord, TrialRecord, TrialState
from mlops_assets.training.space import Point, Range, SearchSpace

Document = dict[str, Any]
# Proposes the next trial, as hyperopt calls it: new ids (one here), domain, trials, seed.
Algorithm = Callable[[list[int], Any, Any, int], list[Document]]
_LAST_BITS = 1e-12


def to_hyperopt(space: SearchSpace) -> dict[str, Any]:
    """Return the space as hyperopt expressions; a fixed parameter is a constant."""
    return {name: _expression(name, item) for name, item in space.ranges.items()}


def _expression(name: str, item: Range) -> Any:
    if item.low == item.high:
        return item.low
    if item.scale == "whole":
        return hp.uniformint(name, int(item.low), int(item.high))
    if item.scale == "log_uniform":
        return hp.loguniform(name, math.log(item.low), math.log(item.high))
    return hp.uniform(name, item.low, item.high)


def proposing(space: SearchSpace, random_trials: int) -> Algorithm:
    """Return the algorithm of a search: the space's starts first, then random points, then TPE.

    Args:
        space: What is searched.
        random_trials: Points that are drawn at random before TPE has enough to learn from.
    """
    learned = partial(tpe.suggest, n_startup_jobs=len(space.starts) + random_trials)

    def propose(new_ids: list[int], domain: Any, trials: Any, seed: int) -> list[Document]:
        number = new_ids[0]
        if number >= len(space.starts):
            return learned(new_ids, domain, trials, seed)
        return given(number, {name: float(space.starts[number][name]) for name in space.free}, domain, trials)

    return propose


def given(number: int, values: Mapping[str, float], domain: Any, trials: Any) -> list[Document]:
    """Return the document of a trial that tries these raw values, as an algorithm of hyperopt returns it."""
    misc = {
        "tid": number,
        "cmd": domain.cmd,
        "workdir": domain.workdir,
        "idxs": {label: [number] for label in values},
        "vals": {label: [value] for label, value in values.items()},
    }
    documents: list[Document] = trials.new_trial_docs([number], [None], [domain.new_result()], [misc])
    return documents


def decode(space: SearchSpace, proposed: dict[str, Any]) -> Point:
    """Return the point behind hyperopt's raw values (`fmin`'s result, or a trial's `misc.vals` unpacked)."""
    return space.to_point(space_eval(to_hyperopt(space), proposed))


def point_of(space: SearchSpace, document: Document) -> Point:
    """Return the point that a trial tries."""
    return decode(space, raw_values(document))


def raw_values(document: Document) -> dict[str, Any]:
    """Return hyperopt's raw values of a trial document, without fixed parameters."""
    return {name: values[0] for name, values in document["misc"]["vals"].items() if values}


def share_of(document: Document) -> float:
    """Return the share of the genuine training rows that a trial is fitted on."""
    return float(document["misc"].get("share", 1.0))


def with_share(document: Document, share: float) -> Document:
    """Return the document of a trial that is fitted on this share of the genuine training rows."""
    return {**document, "misc": {**document["misc"], "share": share}}


def is_extra(document: Document) -> bool:
    """Return whether a trial is in addition to the budget, in a slot that was free."""
    return bool(document["misc"].get("extra", False))


def to_record(document: Document, space: SearchSpace) -> TrialRecord:
    """Return the record of a finished trial's document."""
    result = document["result"]
    good = result["status"] == STATUS_OK
    share = share_of(document)
    whole: TrialState = "finished" if share == 1 else "screened"
    return TrialRecord(
        number=int(document["tid"]),
        point=point_of(space, document),
        state="failed" if not good else "pruned" if result["pruned"] else whole,
        value=result["value"] if good else None,
        loss=result["loss"] if good else None,
        seconds=float(result.get("seconds", 0.0)),
        rounds=int(result["rounds"]) if good else 0,
        curve=tuple((int(rounds), float(value)) for rounds, value in result["curve"]) if good else (),
        folds=tuple(to_fold(*fold) for fold in result.get("folds", ())) if good else (),
        share=share,
        error=result.get("error", ""),
    )


def to_fold(value: float, rounds: int, curve: Iterable[tuple[int, float]]) -> FoldRecord:
    """Return the record of a trial's result on one fold."""
    return FoldRecord(float(value), int(rounds), tuple((int(trees), float(reached)) for trees, reached in curve))


def to_document(record: TrialRecord, space: SearchSpace) -> Document:
    """Return a trial of an earlier search as the document that TPE would have if this search had run it.

    Raises:
        SearchError: The trial's point is outside this space.
    """
    tid = record.number
    if not _is_inside(record.point, space):
        raise SearchError(
            f"trial {tid} tried {record.point}, which is not in the space of this search",
            where=record.resumed_from or "earlier search",
            fix="resume searches of the same key only",
        )
    # hyperopt's integers are floats before they are decoded.
    raw = {name: [float(record.point[name])] for name in space.free}
    document: Document = {
        "state": JOB_STATE_DONE,
        "tid": tid,
        "spec": None,
        "result": _result(record),
        "misc": {"tid": tid, "cmd": None, "workdir": None, "idxs": {name: [tid] for name in raw}, "vals": raw},
        "exp_key": None,
        "owner": None,
        "version": 0,
        "book_time": None,
        "refresh_time": None,
    }
    return document if record.share == 1 else with_share(document, record.share)


def _is_inside(point: Point, space: SearchSpace) -> bool:
    """Return whether a search of the space could have proposed the point."""
    if set(point) != set(space.ranges):
        return False
    for name, item in space.ranges.items():
        value = point[name]
        # The exponential of a logarithm may differ from the bound in the last bit.
        at_an_end = any(math.isclose(value, end, rel_tol=_LAST_BITS) for end in (item.low, item.high))
        if not (item.low <= value <= item.high or (item.scale == "log_uniform" and at_an_end)):
            return False
        if item.scale == "whole" and value % 1:
            return False
    return True


def _result(record: TrialRecord) -> dict[str, Any]:
    if record.state == "failed":
        return {"status": STATUS_FAIL, "error": record.error, "seconds": record.seconds}
    return {
        "status": STATUS_OK,
        "loss": record.loss,
        "value": record.value,
        "rounds": record.rounds,
        "curve": [list(point) for point in record.curve],
        "folds": [[fold.value, fold.rounds, [list(point) for point in fold.curve]] for fold in record.folds],
        "pruned": record.state == "pruned",
        "seconds": record.seconds,
    }
