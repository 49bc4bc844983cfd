"""The tags by which an MLflow run says what its model was made of.

What belongs here: names that are written in one room and read in another. What does not: writing (the `tuned_model`
asset) and reading them (`pins`).
"""

from typing import Final

DATABASE_TAG: Final = "mlops_assets.database"
RAW_VERSION_TAG: Final = "mlops_assets.raw_version"
TEST_VERSION_TAG: Final = "mlops_assets.test_set_version"
