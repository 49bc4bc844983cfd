"""Where everything is, and which target runs it: the only reader of the process environment.

What belongs here: names, paths and switches that differ between users and machines, validated, each with one default.
What does not: what a data scientist tunes per run (asset config in the launchpad) and what a data set is (contract).

Every field can be set as an environment variable `MLOPS_<FIELD>`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_assets.errors import SettingsError

SourceKind = Literal["synthetic", "openml", "files"]


def _checkout() -> Path:
    """Return the folder that relative paths start from: the checkout if there is one, else the current folder."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


class Settings(BaseSettings):
    """The platform's settings.

    Attributes:
        home: Folder that holds everything a run writes (tables, MLflow store, Dagster instance, jars, locks).
        source: `synthetic`, `openml`, `openml:<name or id>`, or a file, folder, glob or fsspec URL.
        contract: Name of a shipped contract, or path of a YAML file.
        database: Name of the lakehouse database; by default one per contract and kind of source, so that a
            synthetic table never mixes with a real one.
        experiment: MLflow experiment.
        model_name: Name in the MLflow registry; by default `fraud_<database>`.
        tracking_uri: MLflow store or server; by default a SQLite store under `home`.
        spark_master: Spark master of the embedded session.
        driver_memory: Heap of the embedded Spark, in JVM notation.
        dagster_url: Address of the Dagster UI, for links from MLflow runs.
        java_home: JAVA_HOME as the process has it.
    """

    model_config = SettingsConfigDict(env_prefix="MLOPS_", extra="forbid", frozen=True)

    home: Path = Path(".mlops")
    source: str = Field(default="synthetic", min_length=1)
    contract: str = Field(default="creditcard", min_length=1)
    database: str = ""
    experiment: str = Field(default="mlops_assets", min_length=1)
    model_name: str = ""
    tracking_uri: str = ""
    spark_master: str = Field(default="local[*]", pattern=r"^local(\[.+\]|-cluster\[.+\])?$")
    driver_memory: str = Field(default="2g", pattern=r"^[1-9][0-9]*[mg]$")
    dagster_url: str = Field(default="http://127.0.0.1:3000", pattern=r"^https?://")
    java_home: str | None = Field(default=None, validation_alias="JAVA_HOME")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        home = home.expanduser()
        return home if home.is_absolute() else (_checkout() / home).resolve()

    @field_validator("database", "model_name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if name and not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError("use lower-case letters, digits and underscores, starting with a letter")
        return name

    @classmethod
    def from_environment(cls) -> Self:
        """Read the settings from the environment.

        Raises:
            SettingsError: A variable has a value that can't be used; the text names each one.
        """
        try:
            return cls()
        except ValidationError as error:
            problems = "; ".join(f"MLOPS_{str(item['loc'][0]).upper()}: {item['msg']}" for item in error.errors())
            raise SettingsError(
                problems, where="environment", mend="set the variable to a valid value, or unset it"
            ) from None

    @property
    def source_kind(self) -> SourceKind:
        """Which kind of source `source` names."""
        if self.source == "synthetic":
            return "synthetic"
        return "openml" if self.source == "openml" or self.source.startswith("openml:") else "files"

    @property
    def contract_name(self) -> str:
        """The contract's name, or its file's, made fit for a table path."""
        return re.sub(r"[^a-z0-9_]+", "_", Path(self.contract).stem.lower()).strip("_") or "contract"

    @property
    def database_name(self) -> str:
        """Database that holds the tables."""
        return self.database or f"{self.contract_name}_{self.source_kind}"

    @property
    def registered_model_name(self) -> str:
        """Name of the model in the registry."""
        return self.model_name or f"fraud_{self.database_name}"

    @property
    def mlflow_uri(self) -> str:
        """Tracking and registry store."""
        return self.tracking_uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    @property
    def uses_embedded_mlflow(self) -> bool:
        """Whether the MLflow store is the SQLite file under `home`."""
        return not self.tracking_uri

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance."""
        return self.home / "dagster"
