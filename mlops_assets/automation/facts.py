"""What Dagster's event log says of a model's tables and models: the facts that conditions go by.

What belongs here: reading the newest record of each asset. What does not: what follows from it (`triggers`,
`conditions`).

Each fact is in the newest record of an asset, so a look reads one record per asset, however long the history is. The
first question of an evaluation loads all records of a model in one query, and the others share them.
Records of before there were data versions say less: a comparison with one goes by the version numbers of tables, and
what an older model was trained on is looked up among the older records of the sets.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import dagster as dg

from mlops_assets.assets.batch_scores import BATCH_SCORES
from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS
from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.automation.triggers import SetsFact, TrainedFact
from mlops_assets.lineage import (
    CHECKED_BY_LOAD,
    DATA_VERSION_IS_GIVEN_TAG,
    DATA_VERSION_TAG,
    DELTA_VERSION,
    LATE_LABELS,
    MLFLOW_RUN_ID,
    PROMOTED,
    RAW_DATA_VERSION,
    RAW_VERSION,
    ROW_COUNT,
    SET_VERSIONS,
    SPLIT_ID,
    TRAINED_ROWS,
)
from mlops_assets.spec import FraudModelSpec

# What conditions look at; loaded together, because a query costs more than what it returns.
_ASSETS = (RAW, DAILY_ARRIVALS, *TABLES.values(), TUNED_MODEL, REGISTERED_MODEL, BATCH_SCORES)
# Enough records to find the sets that a model was trained on whose own record does not say it.
_HISTORY = 500


class View(Protocol):
    """What one evaluation of conditions sees (`AutomationContext.asset_graph_view`)."""

    @property
    def instance(self) -> dg.DagsterInstance:
        """The instance."""


@dataclass(frozen=True)
class _Record:
    """The newest materialization of an asset: its metadata, the data version that it gave, and when it was made."""

    metadata: Mapping[str, Any]
    data_version: str | None
    at: float


# By the view of an evaluation, and by model; an evaluation takes its records with it when it ends.
_RECORDS: WeakKeyDictionary[View, dict[str, dict[str, _Record]]] = WeakKeyDictionary()


def current_sets(view: View, spec: FraudModelSpec) -> SetsFact | None:
    """Return the sets of the last materialization; None if one is missing or they come from different splits."""
    records = _newest(view, spec, TABLES.values())
    sets = [_set_of(record.metadata) for record in records.values()]
    return _together(sets) if len(sets) == len(TABLES) else None


def last_training(view: View, spec: FraudModelSpec) -> TrainedFact | None:
    """Return the sets that the last model was trained on, and when."""
    model = _newest(view, spec, [TUNED_MODEL]).get(TUNED_MODEL)
    if model is None:
        return None
    told = model.metadata
    if TRAINED_ROWS in told:
        sets = SetsFact(told[SPLIT_ID], told[TRAINED_ROWS], told[LATE_LABELS], _table(told))
        return TrainedFact(sets, model.at)
    found = [
        _set_at(view.instance, key_of(spec, table), told.get(SET_VERSIONS[name])) for name, table in TABLES.items()
    ]
    known = [fact for fact in found if fact is not None]
    return TrainedFact(_together(known) if len(known) == len(TABLES) else None, model.at)


def sets_are_behind(view: View, spec: FraudModelSpec) -> bool:
    """Return whether the raw table has other rows than a set was cut from."""
    records = _newest(view, spec, [RAW, DAILY_ARRIVALS, *TABLES.values()])
    raw = _loaded(records)
    return raw is not None and any(_is_behind(raw, records.get(table)) for table in TABLES.values())


def registration_is_behind(view: View, spec: FraudModelSpec) -> bool:
    """Return whether the newest tuned model is not the registered one.

    Their MLflow runs are compared, not their data versions: the same model, found again on newer sets, is judged on
    newer test rows.
    """
    records = _newest(view, spec, [TUNED_MODEL, REGISTERED_MODEL])
    tuned, registered = (
        records[name].metadata.get(MLFLOW_RUN_ID) if name in records else None
        for name in (TUNED_MODEL, REGISTERED_MODEL)
    )
    return tuned is not None and registered != tuned


def scores_are_behind(view: View, spec: FraudModelSpec) -> bool:
    """Return whether the raw table has other rows than were scored, and there is a champion to score them.

    There is one if rows were scored before, or the newest registration has promoted one.
    """
    records = _newest(view, spec, [RAW, DAILY_ARRIVALS, BATCH_SCORES, REGISTERED_MODEL])
    raw, scored = _loaded(records), records.get(BATCH_SCORES)
    if raw is None:
        return False
    if scored is not None:
        return raw.data_version != scored.metadata.get(RAW_DATA_VERSION)
    return REGISTERED_MODEL in records and bool(records[REGISTERED_MODEL].metadata.get(PROMOTED))


def was_checked_by_load(view: View, spec: FraudModelSpec) -> bool:
    """Return whether the raw table's newest record comes from a load that has judged it as its checks do."""
    records = _newest(view, spec, [RAW])
    return RAW in records and CHECKED_BY_LOAD in records[RAW].metadata


def _loaded(records: Mapping[str, _Record]) -> _Record | None:
    """Return the newest record of the raw table, which a load has written, or a past day that was ingested again."""
    loads = [records[name] for name in (RAW, DAILY_ARRIVALS) if name in records]
    loads = [record for record in loads if DELTA_VERSION in record.metadata]
    return max(loads, key=lambda record: record.at, default=None)


def _is_behind(raw: _Record, cut: _Record | None) -> bool:
    if cut is None:
        return True
    if raw.data_version is not None and RAW_DATA_VERSION in cut.metadata:
        return bool(raw.data_version != cut.metadata[RAW_DATA_VERSION])
    return bool(raw.metadata[DELTA_VERSION] != cut.metadata.get(RAW_VERSION))


def _newest(view: View, spec: FraudModelSpec, assets: Collection[str]) -> dict[str, _Record]:
    """Return the newest record of each asset that has one, by the asset's name."""
    loaded = _RECORDS.setdefault(view, {})
    if spec.name not in loaded:
        loaded[spec.name] = _load(view.instance, spec)
    return {asset: record for asset, record in loaded[spec.name].items() if asset in assets}


def _load(instance: dg.DagsterInstance, spec: FraudModelSpec) -> dict[str, _Record]:
    keys = {key_of(spec, asset): asset for asset in _ASSETS}
    records = {}
    for found in instance.get_asset_records(list(keys)):
        event = found.asset_entry.last_materialization
        made = None if event is None else event.asset_materialization
        if event is not None and made is not None:
            tags = made.tags or {}
            is_given = tags.get(DATA_VERSION_IS_GIVEN_TAG) == "true"
            version = tags.get(DATA_VERSION_TAG) if is_given else None
            records[keys[found.asset_entry.asset_key]] = _Record(_values(made), version, event.timestamp)
    return records


def _set_at(instance: dg.DagsterInstance, table: dg.AssetKey, version: Any) -> SetsFact | None:
    """Return a set at a version of its table, from the newest of its records that names it."""
    for record in instance.fetch_materializations(table, limit=_HISTORY).records:
        made = record.asset_materialization
        if made is not None and (told := _values(made)).get(DELTA_VERSION) == version:
            return _set_of(told)
    return None


def _set_of(told: Mapping[str, Any]) -> SetsFact:
    return SetsFact(told[SPLIT_ID], int(told[ROW_COUNT]), int(told.get(LATE_LABELS, 0)), _table(told))


def _together(sets: Sequence[SetsFact]) -> SetsFact | None:
    """Return three sets as one; None if they come from different splits."""
    if len({fact.split for fact in sets}) != 1:
        return None
    return SetsFact(sets[0].split, sum(s.rows for s in sets), sum(s.late_labels for s in sets), sets[0].table)


def _table(told: Mapping[str, Any]) -> str:
    """Return which table a data version of the raw table is about (`Lakehouse.data_version`); empty without one."""
    return str(told.get(RAW_DATA_VERSION, "")).partition("-")[2]


def _values(made: dg.AssetMaterialization) -> dict[str, Any]:
    return {name: value.value for name, value in made.metadata.items()}
