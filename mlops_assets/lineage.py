"""The keys by which one part of the platform finds what another part wrote, each defined once.

What belongs here: keys of commit metadata, of materialization metadata that another asset, a condition or the command
line reads, and of tags in MLflow and of Dagster runs, and the names of artifacts. What does not: values, and keys that
only people read.

A key that is typed by hand elsewhere is a bug: after a rename its reader would silently find nothing. A test looks for
such copies. These strings are on disk in every existing home, so they never change.
"""

from typing import Final

# Metadata of Delta commits and of materializations; both use the same key.
DAGSTER_RUN: Final = "dagster_run"
RAW_VERSION: Final = "raw_version"
RAW_DATA_VERSION: Final = "raw_data_version"
SPLIT_ID: Final = "split_id"
SPLIT_SPEC: Final = "spec"
AS_OF: Final = "as_of"
ROW_COUNT: Final = "dagster/row_count"
LATE_LABELS: Final = "late_labels"

# Metadata of commits only: records of batches, batches that may not be committed yet, replays that may not be finished,
# the version of the label table up to which labels were merged into the raw table, with the window they had, and why a
# load was right to change more than the contract allows.
RECORDS: Final = "records"
UNSETTLED: Final = "unsettled"
REPLAYS: Final = "replays"
LABELS_VERSION: Final = "labels_version"
LABEL_WINDOW: Final = "label_window_days"
ACCEPTED_CHANGES: Final = "accepted_changes"
# Which table a commit of the batch scores is about, also a column of them, and which version it scored whatever other
# versions had; 0 for none.
SCORED_TABLE: Final = "scored_table"
SCORED_AGAIN: Final = "scored_again"

# Metadata of materializations only.
DELTA_VERSION: Final = "delta_version"
TRAINED_ROWS: Final = "trained_rows"
TRAINED_ON_REVERTED: Final = "trained_on_reverted"
BATCHES_DROPPED: Final = "batches_dropped"
BATCHES_GONE: Final = "batches_not_found_again"
CHECKED_BY_LOAD: Final = "checked_by_load"
SET_VERSIONS: Final = {"train": "train_version", "validation": "validation_version", "test": "test_version"}
TEST_SET_VERSION: Final = "test_set_version"
MLFLOW_RUN_ID: Final = "mlflow_run_id"
MODEL_URI: Final = "model_uri"
PRODUCTION_MODEL_URI: Final = "production_model_uri"
BEST_POINT: Final = "best_point"
PROMOTED: Final = "promoted"

# Tags that Dagster puts on a materialization: the data version, and whether the asset gave it.
DATA_VERSION_TAG: Final = "dagster/data_version"
DATA_VERSION_IS_GIVEN_TAG: Final = "dagster/data_version_is_user_provided"
# Tags of a Dagster run: its model, the version of the raw table that it wrote or used, its MLflow run, and the process
# of a run that no code server has started. And the key under which a code location holds the document of each of its
# models, with the model's title appended.
RUN_MODEL_TAG: Final = "mlops_assets/model"
RUN_RAW_VERSION_TAG: Final = "mlops_assets/raw_version"
RUN_MLFLOW_TAG: Final = "mlops_assets/mlflow_run"
RUN_PROCESS_TAG: Final = "mlops_assets/process"
MODEL_DOCUMENT_PREFIX: Final = "mlops_assets/models/"

# Tags of tables in Unity Catalog, whose keys can't have `. , - = / :`.
TABLE_MODEL_TAG: Final = "mlops_assets_model"
TABLE_CONTRACT_TAG: Final = "mlops_assets_contract"

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
MODEL_URI_TAG: Final = "mlops_assets_model_uri"
PRODUCTION_MODEL_URI_TAG: Final = "mlops_assets_production_model_uri"
MODEL_SHA256_TAG: Final = "mlops_assets_model_sha256"
ACCEPTED_LEAKS_TAG: Final = "mlops_assets.accepted_leaks"
END_REASON_TAG: Final = "mlops_assets.end_reason"
REFUSED_TAG: Final = "mlops_assets.refused"

# Name of a model's output, in its signature and in the answers of a server.
PROBABILITY: Final = "probability_of_fraud"

# Tags of versions and models, which are Unity Catalog's there: at most 1,000 characters, no space around, and no
# `. , - = / :` in a name ("Apply tags to Unity Catalog securable objects", constraints; mlflow/recipes-examples #58).
# SHA-256 of each of a version's files, by path, as JSON.
FILES_SHA256_TAG: Final = "mlops_assets_files_sha256"
# Tags of a version: SHA-256 of its golden rows; when and why it was rolled back; what the gate decided; since when it
# was champion.
GOLDEN_SHA256_TAG: Final = "mlops_assets_golden_sha256"
ROLLED_BACK_TAG: Final = "mlops_assets_rolled_back"
GATE_TAG: Final = "mlops_assets_gate"
GATE_REASON_TAG: Final = "mlops_assets_gate_reason"
GATE_EVIDENCE_TAG: Final = "mlops_assets_gate_evidence"
POLICY_TAG: Final = "mlops_assets_policy"
CHAMPION_SINCE_TAG: Final = "mlops_assets_champion_since"
# Tags of a version: who registered it, what it waits for as JSON, and who has approved it.
REGISTERED_BY_TAG: Final = "mlops_assets_registered_by"
APPROVALS_TAG: Final = "mlops_assets_approvals"
APPROVED_BY_TAG: Final = "mlops_assets_approved_by"

# Tags of a registered model.
LEDGER_HEAD_TAG: Final = "mlops_assets_ledger_head"
RETIRED_TAG: Final = "mlops_assets_retired"

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
OPERATING_POINTS_FILE: Final = "evaluation/operating_points.json"
PRODUCTION_FILE: Final = "production/production.json"
PRODUCTION_SCORES_FILE: Final = "production/test_scores.npy"
REHEARSED_SCORES_FILE: Final = "production/rehearsed_scores.npy"
BACKTEST_FILE: Final = "evaluation/backtest.json"
PICTURES_FOLDER: Final = "pictures"
DAYS_AFTER_PICTURE: Final = "days_after.png"
EXPLANATION_FOLDER: Final = "explanation"
IMPORTANCE_FILE: Final = f"{EXPLANATION_FOLDER}/global_importance.json"
# Artifacts of a registered version: its folder, with its number appended, and files in it.
VERSION_FOLDER: Final = "of_version"
GOLDEN_FILE: Final = "golden_rows.json"
VERDICT_FILE: Final = "verdict.json"
CARD_FILE: Final = "model_card.md"
SBOM_FILE: Final = "sbom.json"
