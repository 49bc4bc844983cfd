"""The embedded Spark's settings, and how its errors name themselves."""

from __future__ import annotations

from pathlib import Path

from pyspark.errors import AnalysisException, PySparkException

from mlops_assets.lakehouse.catalog_errors import error_condition
from mlops_assets.resources.spark import SparkResource


def test_java_options_are_added_and_the_later_one_counts(shared_home: Path):
    option = "spark.driver.extraJavaOptions"
    usual = SparkResource(home=str(shared_home))._configuration()[option]
    changed = SparkResource(home=str(shared_home), extra_conf={option: "-XX:TieredStopAtLevel=4"})._configuration()

    assert "-Dlog4j2.configurationFile=" in usual
    assert changed[option] == f"{usual} -XX:TieredStopAtLevel=4"


def test_an_error_names_its_condition():
    error = PySparkException(errorClass="UNSUPPORTED_OPERATION", messageParameters={"operation": "it"})
    assert error_condition(error) == "UNSUPPORTED_OPERATION"
    assert error_condition(AnalysisException("no name")) == ""
