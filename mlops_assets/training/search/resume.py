"""Resuming an interrupted search: its trials, to MLflow tags and back.

What belongs here: how a trial's record is stored in MLflow, and finding the trials that count. What does not: writing
child runs (`trial_writer`), continuing from the records (`search`).

A record is JSON in tags of its child run, with a digest. A record that was edited, was only half written when the
process died, or has the format of another version is skipped with a warning, and its trial runs again. Nothing is
unpickled.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields, replace
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn, get_args

from mlops_assets.lineage import (
    PARENT_TAG,
    RECORD_DIGEST_TAG,
    RECORD_TAG,
    REFUSED_TAG,
    RESUMED_FROM_TAG,
    SEARCH_KEY_TAG,
    STAGE_TAG,
)
from mlops_assets.tracking.store import SEARCH, Store
from mlops_assets.tracking.throttling import patiently
from mlops_assets.training.parameters import SEARCHABLE
from mlops_assets.training.records import FoldRecord, TrialRecord, TrialState
from mlops_assets.training.space import TREES

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

# Databricks allows 5,000 bytes in a tag's value, and MLflow 100 tags in a request.
_PART_LENGTH, _MOST_PARTS = 4_000, 50
_PAGE = 1_000
_KEPT = {item.name for item in fields(TrialRecord)} - {"resumed_from", "folds", "share"}


def record_tags(record: TrialRecord, search_key: str) -> dict[str, str]:
    """Return the tags from which `record_from_tags` rebuilds a record exactly.

    A record whose curve is too long for tags (above about 8,000 points) gets no tags: its trial runs again.
    """
    content = asdict(record)
    del content["resumed_from"]
    if not record.folds:
        del content["folds"]
    if record.share == 1:
        del content["share"]
    # JSON writes a float with the digits of `repr`, so it reads back as the same float.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    parts = [text[at : at + _PART_LENGTH] for at in range(0, len(text), _PART_LENGTH)]
    if len(parts) > _MOST_PARTS:
        logger.warning(
            "trial %d: its curve of %d points is too long to be stored, so a resumed search runs it again",
            record.number,
            len(record.curve),
        )
        return {}
    return {RECORD_DIGEST_TAG: _digest(text, search_key), **{_part(number): part for number, part in enumerate(parts)}}


def record_from_tags(tags: Mapping[str, str], search_key: str) -> TrialRecord:
    """Return the record that `record_tags` wrote.

    Raises:
        ValueError: The record is missing, incomplete, edited, or belongs to another search.
    """
    parts: list[str] = []
    while len(parts) < _MOST_PARTS and (part := tags.get(_part(len(parts)))) is not None:
        parts.append(part)
    if not parts:
        raise ValueError("it has no record of its trial")
    text = "".join(parts)
    if tags.get(RECORD_DIGEST_TAG) != _digest(text, search_key):
        raise ValueError("its record was edited or belongs to another search")
    try:
        return _parse(json.loads(text, parse_constant=_refuse_constant))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its record has another format ({type(error).__name__}: {error})") from None


def finished_trials(store: Store, search_key: str) -> tuple[TrialRecord, ...]:
    """Return the trials of earlier, unfinished runs of a search, ordered by number.

    These are the trials of all searches with this key since the last one that finished or was refused: materializing
    again after that starts a new one. If two runs tried the same number, the first one counts. If all trials failed,
    nothing is returned: the cause may have been fixed since.

    Args:
        store: Where the earlier runs are.
        search_key: The search's key, from `plan.search_key`.

    Raises:
        TrackingError: The store can't be read.
    """
    records: dict[int, TrialRecord] = {}
    with store.answering():
        for parent in _unfinished(store, search_key):
            children = _runs(store, f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")
            for child in children:
                try:
                    record = record_from_tags(child.data.tags, search_key)
                except ValueError as reason:
                    logger.warning("trial of MLflow run %s is not resumed: %s", child.info.run_id, reason)
                else:
                    origin = child.data.tags.get(RESUMED_FROM_TAG) or child.info.run_id
                    records.setdefault(record.number, replace(record, resumed_from=origin))
    if all(record.state == "failed" for record in records.values()):
        return ()
    return tuple(records[number] for number in sorted(records))


def _unfinished(store: Store, search_key: str) -> list[Run]:
    parents = list(_runs(store, f"tags.`{STAGE_TAG}` = '{SEARCH}' and tags.`{SEARCH_KEY_TAG}` = '{search_key}'"))
    ended = [n for n, run in enumerate(parents) if run.info.status == "FINISHED" or REFUSED_TAG in run.data.tags]
    return parents[ended[-1] + 1 :] if ended else parents


def _runs(store: Store, condition: str) -> Iterator[Run]:
    """Yield all runs that match a filter, ordered by start time."""
    token = None
    while True:
        page = patiently(
            partial(
                store.client.search_runs,
                [store.experiment_id],
                condition,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
        )
        yield from page
        token = page.token
        if not token:
            return


def _part(number: int) -> str:
    return f"{RECORD_TAG}.{number}"


def _digest(text: str, search_key: str) -> str:
    return hashlib.sha256(f"{search_key}\n{text}".encode()).hexdigest()[:16]


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"its record contains {name}")


def _parse(content: Any) -> TrialRecord:
    point = content["point"]
    if TREES not in point or set(content) - {"folds", "share"} != _KEPT:  # every point has a number of trees
        raise KeyError("unexpected fields")
    record = TrialRecord(
        number=_whole(content["number"]),
        point={name: _whole(v) if SEARCHABLE[name].type is int else _real(v) for name, v in point.items()},
        state=content["state"],
        value=None if content["value"] is None else _real(content["value"]),
        loss=None if content["loss"] is None else _real(content["loss"]),
        seconds=_real(content["seconds"]),
        rounds=_whole(content["rounds"]),
        curve=tuple((_whole(trees), _real(value)) for trees, value in content["curve"]),
        folds=tuple(
            FoldRecord(
                value=_real(fold["value"]),
                rounds=_whole(fold["rounds"]),
                curve=tuple((_whole(trees), _real(value)) for trees, value in fold["curve"]),
            )
            for fold in content.get("folds", ())
        ),
        share=_real(content.get("share", 1.0)),
        error=content["error"],
    )
    if record.state not in get_args(TrialState) or not isinstance(record.error, str):
        raise TypeError("state or error")
    if (record.state == "failed") != (record.loss is None) or (record.loss is None) != (record.value is None):
        raise TypeError("value and state contradict each other")
    if not 0 < record.share <= 1 or (record.state, record.share == 1) in (("finished", False), ("screened", True)):
        raise TypeError("share and state contradict each other")
    return record


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r:.50} is not an integer of 0 or more")
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.50} is not a finite number")
    return float(value)
