"""Jobs: which of a model's assets are started together.

What belongs here: selections with a name. What does not: when they start (`sensors`, `conditions`, `calendar`).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlops_assets.assets.as_of_backtest import AS_OF_BACKTEST
from mlops_assets.assets.batch_scores import BATCH_SCORES
from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS
from mlops_assets.assets.naming import key_of
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.assets.upkeep import TABLE_UPKEEP
from mlops_assets.dagster_internals import UnresolvedAssetJobDefinition
from mlops_assets.lineage import RUN_MODEL_TAG
from mlops_assets.spec import INFERENCE_LOG, FraudModelSpec

MAIN = "main"
LOAD_DATA = "load_data"
MERGE_LABELS = "merge_labels"
UPKEEP = "upkeep"
REPLAY = "replay_quarantine"
REVERT = "revert_batches"
REPAIR = "repair_tables"
BACKFILL = "backfill_arrivals"
LOAD_PREDICTIONS = "load_predictions"
SCORE_ROWS = "score_rows"


def op_config(spec: FraudModelSpec, op: str, config: dict[str, Any]) -> dict[str, Any]:
    """Return the `ops` of a run config that gives one asset its config."""
    return {spec.prefixed(op): {"config": config}}


def labels_only(spec: FraudModelSpec) -> dict[str, Any]:
    """Return the `ops` that make a load run merge labels without reading the source."""
    return op_config(spec, RAW, {"labels_only": True})


def jobs_of(spec: FraudModelSpec, *, days: bool) -> list[UnresolvedAssetJobDefinition]:
    """Return the jobs of a model.

    Args:
        spec: The model.
        days: Whether files arrive, so that those of past days can be ingested again.
    """

    def selected(*names: str) -> dg.AssetSelection:
        return dg.AssetSelection.assets(*(key_of(spec, name) for name in names))

    def job(
        name: str, selection: dg.AssetSelection, description: str, ops: dict[str, Any] | None = None
    ) -> UnresolvedAssetJobDefinition:
        return dg.define_asset_job(
            spec.prefixed(name),
            selection=selection,
            config={"ops": ops} if ops else None,
            tags={RUN_MODEL_TAG: spec.title},
            description=description,
        )

    tables = (RAW, QUARANTINED)
    labels = () if spec.labels is None else (TRANSACTION_LABELS,)
    jobs = [
        job(
            MAIN,
            # Not all that is upstream: an asset of the user's own may be, and has a pace of its own.
            selected(*labels, *tables, *TABLES.values(), TUNED_MODEL, REGISTERED_MODEL),
            "Load, split, tune, evaluate, register: the whole chain.",
        ),
        job(LOAD_DATA, selected(*tables), "Load new transactions."),
        job(
            REPLAY,
            selected(*tables),
            "Try the rows in quarantine again, once the contract is fixed.",
            op_config(spec, RAW, {"replay": True}),
        ),
        job(
            REVERT,
            selected(*tables),
            "Take batches out of the tables again, as if they had never come: name them in the config.",
            op_config(spec, RAW, {"revert": []}),
        ),
        job(
            REPAIR,
            selected(*tables),
            "Load batches again that are on record and that the raw table has lost.",
            op_config(spec, RAW, {"repair": True}),
        ),
        job(
            "build_model",
            selected(*TABLES.values(), TUNED_MODEL, REGISTERED_MODEL),
            "Split what is loaded, tune, evaluate, register.",
        ),
        job(
            UPKEEP,
            selected(TABLE_UPKEEP),
            "Compact the tables and delete files that no retained version needs; versions that models use stay.",
        ),
        job(
            "train_as_of",
            selected(AS_OF_BACKTEST),
            "Train on what was known at the end of a past week, and score the days after it; registers nothing.",
        ),
    ]
    if days:
        text = "Re-ingest the files of past days: rows that the tables lack are added."
        jobs.append(job(BACKFILL, selected(DAILY_ARRIVALS), text))
    if spec.labels is not None:
        text = "Load late labels and merge them into the transactions."
        jobs.append(job(MERGE_LABELS, selected(TRANSACTION_LABELS, *tables), text, labels_only(spec)))
    if spec.batch_scores is not None:
        jobs.append(job(SCORE_ROWS, selected(BATCH_SCORES), "Score the rows that have no score, with the champion."))
    if spec.inference_log is not None:
        jobs.append(job(LOAD_PREDICTIONS, selected(INFERENCE_LOG), "Load captured predictions, and score some again."))
    return jobs
