"""The supported Databricks Runtimes, and the packages that each of them ships.

What belongs here: facts about the platform's images. What does not: what is installed on top (`libraries`), and whether
the result is compatible with the launching side (`preflight`).

Sources, read in November 2026: the package lists that Databricks derives from its release notes
(github.com/databricks/environments, `python/dbr/<spark_version>/constraints.txt`; the lists of 16.4 LTS and 17.3 LTS
agree with `ubuntu/python/requirements.txt` of the release branches of github.com/databricks/containers), and the table
"MLflow-Databricks Runtime compatibility matrix" of the release notes. A package whose version could not be confirmed
is not in the table, so it is installed; hyperopt is one (16.4 LTS ML has a patched 0.2.7, later runtimes have none).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from mlops_assets.errors import SettingsError


@dataclass(frozen=True)
class Runtime:
    """One runtime.

    Attributes:
        key: Its name in settings, such as `18-ml`.
        spark_version: Its name in the Jobs API (`new_cluster.spark_version`).
        python: Minor version of its Python.
        spark: Version of its Apache Spark.
        packages: Versions of the packages that this project needs, by normalized name.
    """

    key: str
    spark_version: str
    python: str
    spark: str
    packages: Mapping[str, str]

    @property
    def is_ml(self) -> bool:
        """Whether it is an image for machine learning."""
        return self.key.endswith("-ml")

    def names(self, spark_version: str) -> bool:
        """Whether `spark_version` names this image or another build of it, such as `18.x-scala2.13` for `18`.

        Photon and GPU builds count; an ML image is not a build of the plain one.
        """
        line = self.key.removesuffix("-ml").removesuffix("-lts")
        built = re.fullmatch(rf"{re.escape(line)}(\.\d+)?\.x((?:-\w+)*)-scala2\.1[23]", spark_version)
        return built is not None and ("-ml" in built[2]) == self.is_ml


def _runtime(key: str, spark_version: str, spark: str, **packages: str) -> Runtime:
    named = {name.replace("_", "-"): version for name, version in sorted(packages.items())}
    return Runtime(key, spark_version, "3.12", spark, MappingProxyType(named))


_16_4 = {
    "databricks_sdk": "0.30.0",
    "filelock": "3.15.4",
    "matplotlib": "3.8.4",
    "numpy": "1.26.4",
    "pandas": "1.5.3",
    "pillow": "10.3.0",
    "pyarrow": "15.0.2",
    "pydantic": "2.8.2",
    "pyyaml": "6.0.1",
    "requests": "2.32.2",
    "scikit_learn": "1.4.2",
}
_16_4_ML = _16_4 | {"filelock": "3.13.1", "fsspec": "2023.5.0", "mlflow": "2.21.3", "xgboost": "2.0.3"}
_17_3 = {
    "databricks_sdk": "0.49.0",
    "filelock": "3.18.0",
    "fsspec": "2023.5.0",
    "matplotlib": "3.10.0",
    "numpy": "2.1.3",
    "pandas": "2.2.3",
    "pillow": "11.1.0",
    "pyarrow": "19.0.1",
    "pydantic": "2.10.6",
    "pyyaml": "6.0.2",
    "requests": "2.32.3",
    "scikit_learn": "1.6.1",
}
_17_3_ML = _17_3 | {"filelock": "3.13.1", "mlflow": "3.0.1", "xgboost": "3.0.0"}
_18 = _17_3 | {"databricks_sdk": "0.67.0", "deltalake": "1.1.4", "filelock": "3.17.0", "pyarrow": "21.0.0"}
_18_ML = _18 | {"mlflow": "3.8.1", "xgboost": "3.1.1"}

RUNTIMES: Final[Mapping[str, Runtime]] = MappingProxyType(
    {
        made.key: made
        for made in (
            _runtime("16.4-lts", "16.4.x-scala2.12", "3.5.2", **_16_4),
            _runtime("16.4-lts-ml", "16.4.x-cpu-ml-scala2.12", "3.5.2", **_16_4_ML),
            _runtime("17.3-lts", "17.3.x-scala2.13", "4.0.0", **_17_3),
            _runtime("17.3-lts-ml", "17.3.x-cpu-ml-scala2.13", "4.0.0", **_17_3_ML),
            # 18.0, 18.1 and 18.2 list the same versions of these packages; 18.0 has reached its end of support.
            _runtime("18", "18.2.x-scala2.13", "4.1.0", **_18),
            _runtime("18-ml", "18.2.x-cpu-ml-scala2.13", "4.1.0", **_18_ML),
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
