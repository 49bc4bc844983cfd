"""The keys by which one part of the platform finds what another part wrote, each defined once.

What belongs here: keys of commit metadata, of materialization metadata that another asset, a condition or the command
line reads, and of MLflow tags, and the names of artifacts. What does not: values, and keys that only people read.

A key that is typed by hand elsewhere is a bug: after a rename its reader would silently find nothing. A test looks for
such copies. These strings are on disk in every existing home, so they never change.
"""

from typing import Final

# Metadata of Delta commits and of materializations; both use the same key.
DAGSTER_RUN: Final = "dagster_run"
RAW_VERSION: Final = "raw_version"
SPLIT_ID: Final = "split_id"
SPLIT_SPEC: Final = "spec"
AS_OF: Final = "as_of"

# Metadata of commits only: records of batches, batches that may not be committed yet, replays that may not be finished,
# and the version of the label table up to which labels were merged into the raw table, with the window they had.
RECORDS: Final = "records"
UNSETTLED: Final = "unsettled"
REPLAYS: Final = "replays"
LABELS_VERSION: Final = "labels_version"
LABEL_WINDOW: Final = "label_window_days"

# Metadata of materializations only.
DELTA_VERSION: Final = "delta_version"
ROW_COUNT: Final = "dagster/row_count"
LATE_LABELS: Final = "late_labels"
SET_VERSIONS: Final = {"train": "train_version", "validation": "validation_version", "test": "test_version"}
TEST_SET_VERSION: Final = "test_set_version"
MLFLOW_RUN_ID: Final = "mlflow_run_id"
MODEL_URI: Final = "model_uri"
PRODUCTION_MODEL_URI: Final = "production_model_uri"
BEST_POINT: Final = "best_point"
PROMOTED: Final = "promoted"

# Tags of every MLflow run; the first two are MLflow's own.
PARENT_TAG: Final = "mlflow.parentRunId"
RUN_NAME_TAG: Final = "mlflow.runName"
STAGE_TAG: Final = "mlops_assets.stage"
PROCESS_TAG: Final = "mlops_assets.process"

# Tags of a model's run: what it was made from, and by which Dagster run.
DATABASE_TAG: Final = "mlops_assets.database"
RAW_TABLE_TAG: Final = "mlops_assets.raw_table"
RAW_VERSION_TAG: Final = "mlops_assets.raw_version"
TEST_VERSION_TAG: Final = "mlops_assets.test_set_version"
SPLIT_ID_TAG: Final = "mlops_assets.split_id"
AS_OF_TAG: Final = "mlops_assets.as_of"
SCORED_VERSION_TAG: Final = "mlops_assets.scored_raw_version"
GIT_REVISION_TAG: Final = "mlops_assets.git_revision"
PACKAGE_TAG_PREFIX: Final = "package."
DAGSTER_RUN_TAG: Final = "dagster.run_id"
DAGSTER_URL_TAG: Final = "dagster.run_url"
MODEL_URI_TAG: Final = "mlops_assets.model_uri"
PRODUCTION_MODEL_URI_TAG: Final = "mlops_assets.production_model_uri"
MODEL_SHA256_TAG: Final = "mlops_assets.model_sha256"
ACCEPTED_LEAKS_TAG: Final = "mlops_assets.accepted_leaks"
END_REASON_TAG: Final = "mlops_assets.end_reason"
REFUSED_TAG: Final = "mlops_assets.refused"

# Tags of a search's run and of its trials' runs; an unfinished search resumes from them.
SEARCH_KEY_TAG: Final = "mlops_assets.search_key"
STATE_TAG: Final = "mlops_assets.state"
ERROR_TAG: Final = "mlops_assets.error"
RESUMED_FROM_TAG: Final = "mlops_assets.resumed_from"
RECORD_TAG: Final = "mlops_assets.record"
RECORD_DIGEST_TAG: Final = "mlops_assets.record_digest"

# Artifacts of a model's run: file paths, and folders.
SCORES_FILE: Final = "evaluation/test_scores.npy"
EVALUATION_FILE: Final = "evaluation/evaluation.json"
PRODUCTION_FILE: Final = "production/production.json"
PRODUCTION_SCORES_FILE: Final = "production/test_scores.npy"
REHEARSED_SCORES_FILE: Final = "production/rehearsed_scores.npy"
BACKTEST_FILE: Final = "evaluation/backtest.json"
PICTURES_FOLDER: Final = "pictures"
EXPLANATION_FOLDER: Final = "explanation"
