"""Going on with a search that was broken off: its trials, as MLflow tags and back.

What belongs here: the form in which a trial's record is kept in MLflow, and finding the trials that count. What does
not: writing child runs (`trial_writer`), going on from the records (`search`).

A record is JSON in tags of its child run, sealed with a digest. What anybody has edited since, what was half written
when the process died, or what another version wrote is left out with a word in the log: that trial is tried again.
Nothing is unpickled.
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

from mlops_assets.lineage import PARENT_TAG, RECORD_DIGEST_TAG, RECORD_TAG, RESUMED_FROM_TAG, SEARCH_KEY_TAG, STAGE_TAG
from mlops_assets.tracking.store import SEARCH, Store
from mlops_assets.tracking.throttling import patiently
from mlops_assets.training.parameters import PARAMETERS
from mlops_assets.training.records import TrialRecord, TrialState
from mlops_assets.training.space import TREES

if TYPE_CHECKING:
    from mlflow.entities import Run

logger = logging.getLogger(__name__)

# Databricks takes 5,000 bytes in a tag's value, and MLflow 100 tags in a request.
_PART_LENGTH, _MOST_PARTS = 4_000, 50
_PAGE = 1_000
_KEPT = {item.name for item in fields(TrialRecord)} - {"resumed_from"}


def record_tags(record: TrialRecord, search_key: str) -> dict[str, str]:
    """Return the tags from which `record_from_tags` rebuilds a record exactly.

    A record whose curve is too long for tags (from some 8,000 points on) gets none: such a trial is tried again.
    """
    content = asdict(record)
    del content["resumed_from"]
    # JSON writes a float with the digits that `repr` does, which read back as the same float.
    text = json.dumps(content, allow_nan=False, separators=(",", ":"))
    parts = [text[at : at + _PART_LENGTH] for at in range(0, len(text), _PART_LENGTH)]
    if len(parts) > _MOST_PARTS:
        logger.warning("trial %d: a curve of %d points can't be kept for resuming", record.number, len(record.curve))
        return {}
    return {RECORD_DIGEST_TAG: _digest(text, search_key), **{_part(number): part for number, part in enumerate(parts)}}


def record_from_tags(tags: Mapping[str, str], search_key: str) -> TrialRecord:
    """Return the record that `record_tags` wrote.

    Raises:
        ValueError: There is none, it is not whole, or it is not what was written for this search.
    """
    parts: list[str] = []
    while len(parts) < _MOST_PARTS and (part := tags.get(_part(len(parts)))) is not None:
        parts.append(part)
    if not parts:
        raise ValueError("it holds no record of its trial")
    text = "".join(parts)
    if tags.get(RECORD_DIGEST_TAG) != _digest(text, search_key):
        raise ValueError("its record was edited, or is of another search")
    try:
        return _parse(json.loads(text, parse_constant=_refuse_constant))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"its record is of another form ({type(error).__name__}: {error})") from None


def finished_trials(store: Store, search_key: str) -> tuple[TrialRecord, ...]:
    """Return what earlier, unfinished runs of a search have found, by number.

    These are the trials of all searches with this key since the last one that finished: a finished search is history,
    and materializing again searches again. Where two runs have tried the same number, the first one counts. When
    not one trial has a value, nothing is returned: what made all of them fail may have been fixed since.

    Args:
        store: Where the earlier runs are.
        search_key: What `plan.search_key` says of the search.

    Raises:
        TrackingError: The store can't be read.
    """
    found: dict[int, TrialRecord] = {}
    with store.answering():
        for parent in _unfinished(store, search_key):
            children = _runs(store, f"tags.`{PARENT_TAG}` = '{parent.info.run_id}'")
            for child in children:
                try:
                    record = record_from_tags(child.data.tags, search_key)
                except ValueError as reason:
                    logger.warning("MLflow run %s is not resumed from: %s", child.info.run_id, reason)
                else:
                    origin = child.data.tags.get(RESUMED_FROM_TAG) or child.info.run_id
                    found.setdefault(record.number, replace(record, resumed_from=origin))
    if all(record.state == "failed" for record in found.values()):
        return ()
    return tuple(found[number] for number in sorted(found))


def _unfinished(store: Store, search_key: str) -> list[Run]:
    parents = list(_runs(store, f"tags.`{STAGE_TAG}` = '{SEARCH}' and tags.`{SEARCH_KEY_TAG}` = '{search_key}'"))
    ended_well = [number for number, run in enumerate(parents) if run.info.status == "FINISHED"]
    return parents[ended_well[-1] + 1 :] if ended_well else parents


def _runs(store: Store, condition: str) -> Iterator[Run]:
    """Yield all runs on which a condition holds, in order of their start."""
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
    raise ValueError(f"its record holds {name}")


def _parse(content: Any) -> TrialRecord:
    point = content["point"]
    if TREES not in point or set(content) != _KEPT:  # no point is without its number of trees
        raise KeyError("other fields")
    record = TrialRecord(
        number=_whole(content["number"]),
        point={name: _whole(v) if PARAMETERS[name].type is int else _real(v) for name, v in point.items()},
        state=content["state"],
        value=None if content["value"] is None else _real(content["value"]),
        loss=None if content["loss"] is None else _real(content["loss"]),
        seconds=_real(content["seconds"]),
        rounds=_whole(content["rounds"]),
        curve=tuple((_whole(trees), _real(value)) for trees, value in content["curve"]),
        error=content["error"],
    )
    if record.state not in get_args(TrialState) or not isinstance(record.error, str):
        raise TypeError("state or error")
    if (record.state == "failed") != (record.loss is None) or (record.loss is None) != (record.value is None):
        raise TypeError("a value and a state that contradict each other")
    return record


def _whole(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise TypeError(f"{value!r:.50} where a number of 0, 1, 2 ... is wanted")
    return value


def _real(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise TypeError(f"{value!r:.50} where a finite number is wanted")
    return float(value)
