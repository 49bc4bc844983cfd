"""Where labels come from that are known after their transactions, as the config of an asset: one class per kind.

What belongs here: what a person may choose for one run, and all that depends on the kind. What does not: the
transactions (`sources`), reading (`data/sources`).
"""

from typing import TYPE_CHECKING, Self

from pydantic import Field

from mlops_assets.assets.sources import (
    LOCATION,
    CardTransactions,
    GeneratedCards,
    InputConfig,
    SourceConfig,
    require_within,
)
from mlops_assets.data.sources.arrivals import Arrivals, arrivals_of_files
from mlops_assets.deployment import Deployment
from mlops_assets.spec import CARDS, FraudModelSpec

if TYPE_CHECKING:
    from mlops_assets.data.sources.base import TransactionSource


class LabelConfig(InputConfig):
    """Something that yields batches of labels."""


class LabelFiles(LabelConfig):
    """CSV, CSV.gz or Parquet files with labels that come after their transactions."""

    location: str = Field(description=LOCATION)

    def open(self) -> "TransactionSource":
        """Return the reader; a folder or glob without files is no error, since there may be no labels yet."""
        from mlops_assets.data.sources.files import FilesSource

        return FilesSource(self.location, may_be_empty=True, limits=Deployment.from_environment().limits)

    @property
    def arrivals(self) -> Arrivals:
        """Files appear, except on the web."""
        return arrivals_of_files(self.location)

    def require_within(self, place: Self) -> None:
        """Check that each file, folder or glob lies in the model's place of labels.

        Raises:
            SettingsError: One lies elsewhere.
        """
        require_within(self.location, place.location)


class CardReports(GeneratedCards, LabelConfig):
    """Reports of the frauds among generated transactions; choose the same cards as for the transactions.

    Reports of other cards wait for their transactions, and label nothing.
    """

    def open(self) -> "TransactionSource":
        """Return the generator."""
        from mlops_assets.data.sources.card_sources import CardReportsSource

        return CardReportsSource(**self.model_dump())

    @property
    def arrivals(self) -> Arrivals:
        """Nothing new ever comes."""
        return Arrivals.NEVER


def labels_of(spec: FraudModelSpec, source: SourceConfig) -> LabelConfig | None:
    """Return the late labels that a spec names; None if labels come with the transactions.

    Args:
        spec: The model.
        source: Its source; generated reports are about the same cards.
    """
    if spec.labels is None:
        return None
    if spec.labels == CARDS and isinstance(source, CardTransactions):
        return CardReports(**source.model_dump())
    return LabelFiles(location=spec.labels)
