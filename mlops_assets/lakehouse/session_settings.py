"""Settings of the Spark session that one statement needs, and that are restored after it.

What belongs here: setting them, and the error where they can't be set. What does not: which settings (callers).

Serverless compute lets few settings be set, and none of Delta's ("Set Spark configuration properties" and "Enrich
tables with custom metadata" of the Databricks reference).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from mlops_assets.errors import StorageError
from mlops_assets.lakehouse.catalog_errors import spark_errors

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

_REFUSED: Final = "CONFIG_NOT_AVAILABLE"


class UnavailableSettingError(StorageError):
    """The session's compute lets a setting be neither read nor set."""


@contextmanager
def session_settings(session: SparkSession, settings: Mapping[str, str], *, purpose: str) -> Iterator[None]:
    """Set settings for a block, and restore the previous ones afterwards.

    Args:
        session: The session.
        settings: Values by name.
        purpose: What needs them, for the error.

    Raises:
        UnavailableSettingError: They can't be set here; the block did not run.
    """
    conf, before = session.conf, dict[str, str | None]()
    try:
        try:
            for name, value in settings.items():
                before[name] = conf.get(name, None)
                conf.set(name, value)
        except spark_errors() as error:
            if _REFUSED not in str(error):
                raise
            before.pop(name, None)
            raise UnavailableSettingError(
                f"{purpose} needs the session setting {name}, which serverless compute does not have",
                where="compute: serverless",
                fix="run this asset on a cluster: in the Databricks profile set `placement: {<asset>: trials}`, or "
                "`compute: classic` for the loader",
            ) from None
        yield
    finally:
        for name, old in before.items():
            if old is None:
                conf.unset(name)
            else:
                conf.set(name, old)
