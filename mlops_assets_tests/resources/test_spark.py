"""What differs between the Sparks that the code runs on."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pytest
from pyspark.errors import AnalysisException, PySparkException

from mlops_assets.lakehouse.catalog_errors import error_condition
from mlops_assets.resources.spark import SparkResource


class ErrorOfSpark35:
    """The methods of pyspark 3.5's PySparkException (pyspark/errors/exceptions/base.py of its branch-3.5)."""

    def __init__(self, error_class: str | None) -> None:
        self._error_class = error_class

    def getErrorClass(self) -> str | None:  # noqa: N802 - pyspark's name
        return self._error_class


def test_java_options_are_added_and_the_later_one_counts(shared_home: Path):
    option = "spark.driver.extraJavaOptions"
    usual = SparkResource(home=str(shared_home))._configuration()[option]
    changed = SparkResource(home=str(shared_home), extra_conf={option: "-XX:TieredStopAtLevel=4"})._configuration()

    assert "-Dlog4j2.configurationFile=" in usual
    assert changed[option] == f"{usual} -XX:TieredStopAtLevel=4"


def test_the_installed_spark():
    error = PySparkException(errorClass="UNSUPPORTED_OPERATION", messageParameters={"operation": "it"})
    assert hasattr(error, "getCondition")
    assert error_condition(error) == "UNSUPPORTED_OPERATION"
    assert error_condition(AnalysisException("no name")) == ""


@pytest.mark.parametrize(("name", "told"), [("DELTA_CONCURRENT_APPEND", "DELTA_CONCURRENT_APPEND"), (None, "")])
def test_spark_3_5(name: str | None, told: str):
    old: Any = ErrorOfSpark35(name)
    with pytest.raises(AttributeError):
        old.getCondition()
    assert error_condition(cast("PySparkException", old)) == told
