"""The supported Databricks Runtimes and serverless environments, and the packages that each of them ships.

What belongs here: facts about the platform's images. What does not: what is installed on top (`libraries`), and whether
the result is compatible with the launching side (`preflight`).

Sources: for packages those that each file in `constraints/` names with its date; for the rest the release notes and the
table "MLflow-Databricks Runtime compatibility matrix", read in November 2026. A package that is not in a runtime's file
is not known to be there, so it is installed; hyperopt is one (these runtimes have none).

16.4 LTS is not supported, because it is Spark 3.5 and the code is written for Spark 4; 19 is not yet, because it is
Spark 4.2, which no test has run on. The same holds for serverless environments: 5 is Databricks Connect 18, on which
the tests' Spark is, and 6 is Databricks Connect 19.1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Final

from mlops_assets.errors import SettingsError


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Attributes:
        key: Its name in settings, such as `18-ml`.
        spark_version: Its name in the Jobs API (`new_cluster.spark_version`); empty for a serverless environment.
        python: Minor version of its Python.
        spark: Version of its Apache Spark.
        packages: Versions of its packages that this project's requirements lead to, by normalized name.
        environment_version: Version of a serverless environment (`environments.spec.environment_version`), else empty.
    """

    key: str
    spark_version: str
    python: str
    spark: str
    packages: Mapping[str, str]
    environment_version: str = ""

    @property
    def is_ml(self) -> bool:
        """Whether it is an image for machine learning."""
        return self.key.endswith("-ml")

    def names(self, spark_version: str) -> bool:
        """Whether `spark_version` names this image or another build of it, such as `18.x-scala2.13` for `18`.

        Photon and GPU builds count; an ML image is not a build of the plain one.
        """
        line = self.key.removesuffix("-ml").removesuffix("-lts")
        built = re.fullmatch(rf"{re.escape(line)}(\.\d+)?\.x((?:-\w+)*)-scala2\.13", spark_version)
        return built is not None and ("-ml" in built[2]) == self.is_ml


def _runtime(key: str, spark_version: str, spark: str, environment_version: str = "") -> Runtime:
    text = (resources.files("mlops_assets.databricks") / "constraints" / f"{key}.txt").read_text("utf-8")
    pins = (line.split("~=", 1) for line in text.splitlines() if line and not line.startswith("#"))
    return Runtime(key, spark_version, "3.12", spark, MappingProxyType(dict(pins)), environment_version)


SERVERLESS: Final = "serverless-5"


RUNTIMES: Final[Mapping[str, Runtime]] = MappingProxyType(
    {
        made.key: made
        for made in (
            _runtime("17.3-lts", "17.3.x-scala2.13", "4.0.0"),
            _runtime("17.3-lts-ml", "17.3.x-cpu-ml-scala2.13", "4.0.0"),
            # 18.0, 18.1 and 18.2 list the same versions of these packages; 18.0 has reached its end of support.
            _runtime("18", "18.x-scala2.13", "4.1.0"),
            _runtime("18-ml", "18.x-cpu-ml-scala2.13", "4.1.0"),
            _runtime(SERVERLESS, "", "4.1.0", environment_version="5"),
        )
    }
)


def runtime(key: str) -> Runtime:
    """Return the runtime of a name in settings.

    Raises:
        SettingsError: There is no such runtime, or it is not supported.
    """
    if key not in RUNTIMES:
        raise SettingsError(
            f"{key!r} is not a supported Databricks Runtime", where="runtime", fix=f"use one of {', '.join(RUNTIMES)}"
        )
    return RUNTIMES[key]
