"""Jobs: which assets are started together.

What belongs here: selections with a name. What does not: when they start (`sensors`, `conditions`, `calendar`).
"""

from __future__ import annotations

import dagster as dg

from mlops_assets.assets.as_of_backtest import AS_OF_BACKTEST
from mlops_assets.assets.daily_arrivals import DAILY_ARRIVALS
from mlops_assets.assets.raw_transactions import QUARANTINED, RAW
from mlops_assets.assets.registered_model import REGISTERED_MODEL
from mlops_assets.assets.splits import TABLES
from mlops_assets.assets.transaction_labels import TRANSACTION_LABELS
from mlops_assets.assets.tuned_model import TUNED_MODEL
from mlops_assets.assets.upkeep import TABLE_UPKEEP

MAIN = "main"
LOAD_DATA = "load_data"
MERGE_LABELS = "merge_labels"
# Makes a load run merge labels without reading the source.
LABELS_ONLY = {RAW: {"config": {"labels_only": True}}}
UPKEEP = "upkeep"
REPLAY = "replay_quarantine"

main = dg.define_asset_job(
    MAIN,
    # Late labels are upstream if there is a source of them.
    selection=dg.AssetSelection.assets(QUARANTINED) | dg.AssetSelection.assets(REGISTERED_MODEL).upstream(),
    description="Load, split, tune, evaluate, register: the whole chain.",
)
load_data = dg.define_asset_job(
    LOAD_DATA, selection=dg.AssetSelection.assets(RAW, QUARANTINED), description="Load new transactions."
)
replay_quarantine = dg.define_asset_job(
    REPLAY,
    selection=dg.AssetSelection.assets(RAW, QUARANTINED),
    config={"ops": {RAW: {"config": {"replay": True}}}},
    description="Try the rows in quarantine again, once the contract is fixed.",
)
build_model = dg.define_asset_job(
    "build_model",
    selection=dg.AssetSelection.assets(*TABLES.values(), TUNED_MODEL, REGISTERED_MODEL),
    description="Split what is loaded, tune, evaluate, register.",
)

# For code locations with a source of labels.
merge_labels = dg.define_asset_job(
    MERGE_LABELS,
    selection=dg.AssetSelection.assets(TRANSACTION_LABELS, RAW, QUARANTINED),
    config={"ops": LABELS_ONLY},
    description="Load late labels and merge them into the transactions.",
)

upkeep = dg.define_asset_job(
    UPKEEP,
    selection=dg.AssetSelection.assets(TABLE_UPKEEP),
    description="Compact the tables and delete files that no retained version needs; versions that models use stay.",
)
train_as_of = dg.define_asset_job(
    "train_as_of",
    selection=dg.AssetSelection.assets(AS_OF_BACKTEST),
    description="Train on what was known at the end of a past day, and score the days after it; registers nothing.",
)
backfill_arrivals = dg.define_asset_job(
    "backfill_arrivals",
    selection=dg.AssetSelection.assets(DAILY_ARRIVALS),
    description="Re-ingest the files of past days: rows that the tables lack are added.",
)

JOBS = [main, load_data, replay_quarantine, build_model, upkeep, train_as_of]
