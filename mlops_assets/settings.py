"""Where everything is, and which target runs it: the only reader of the process environment.

What belongs here: the deployment - names, paths and switches that differ between users and machines, validated, each
with one default - and the variables that describe one model. What does not: what else a model is (`spec`), what a data
scientist tunes per run (asset config in the launchpad), what a data set is (contract).

Every field can be set as an environment variable `MLOPS_<FIELD>`; an empty one counts as not set.
"""

from __future__ import annotations

import json
import os
import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_assets.errors import SettingsError

if TYPE_CHECKING:
    from mlops_assets.databricks.profile import DatabricksProfile
    from mlops_assets.spec import FraudModelSpec

# Dagster's pool of the assets that may be launched; an instance limits it (`instance`, `DatabricksProfile`).
LAUNCH_POOL = "databricks_launches"
_PREFIX = "MLOPS_"
_PROFILE_PREFIX = "MLOPS_DATABRICKS_"  # overrides of a profile's fields; the profile checks their names
# The kinds of database that MLflow itself connects to (`mlflow.store.db.utils`), with any driver (`mysql+pymysql`).
_MLFLOW_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_MASTER = r"local(\[(\*|[1-9]\d*)(,\s*\d+)?\]|-cluster\[\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\])?"


def _checkout() -> Path:
    """Return the folder that relative paths start from: the checkout if there is one, else the current folder."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


def _misspelt(fields: list[str]) -> list[str]:
    """Return a message for each variable that looks like one of ours and would be silently ignored."""
    ours = [name for name in os.environ if name.startswith(_PREFIX) and not name.startswith(_PROFILE_PREFIX)]
    unknown = [name for name in ours if name.removeprefix(_PREFIX) not in fields]
    guesses = {name: get_close_matches(name.removeprefix(_PREFIX), fields, n=1, cutoff=0.75) for name in unknown}
    return [f"{name}: no such setting; did you mean {_PREFIX}{guess[0]}?" for name, guess in guesses.items() if guess]


class Deployment(BaseSettings):
    """Where everything is, shared by all models of a code location.

    Attributes:
        target: `local` (embedded Spark, Delta and MLflow) or `databricks`.
        home: Folder that holds everything a run writes (tables, MLflow store, Dagster instance, jars, locks).
        tracking_uri: MLflow store or server; by default a SQLite store under `home`.
        spark_master: Spark master of the embedded session.
        driver_memory: Heap of the embedded Spark, in JVM notation.
        dagster_url: Address of the Dagster UI, for links from MLflow runs.
        java_home: The process's JAVA_HOME, unless MLOPS_JAVA_HOME overrides it.
        databricks_profile: With target `databricks`: `dev`, `staging`, `prod`, or the path of a YAML file.
        automation: `on` starts sensors, conditions and schedules with the daemon; `off` leaves them to be switched on
            in the UI.
        alert_webhook: URL that a message for each failed run is posted to; without it, messages go to the log.
        runtime_version: The Databricks Runtime that this process runs on; None anywhere else.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    target: Literal["local", "databricks"] = "local"
    home: Path = Path(".mlops")
    tracking_uri: str = ""
    spark_master: str = "local[*]"
    driver_memory: str = "2g"
    dagster_url: str = "http://127.0.0.1:3000"
    java_home: str | None = Field(default=None, validation_alias=AliasChoices("MLOPS_JAVA_HOME", "JAVA_HOME"))
    databricks_profile: str = Field(default="dev", min_length=1)
    automation: Literal["on", "off"] = "off"
    alert_webhook: SecretStr | None = None
    runtime_version: str | None = Field(default=None, validation_alias="DATABRICKS_RUNTIME_VERSION")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            home = home.expanduser()
        except RuntimeError:
            raise ValueError(f"{home}: no such user") from None
        return home if home.is_absolute() else (_checkout() / home).resolve()

    @field_validator("spark_master")
    @classmethod
    def _embedded(cls, master: str) -> str:
        if not re.fullmatch(_MASTER, master):
            raise ValueError("use local, local[N], local[*] or local-cluster[WORKERS,CORES,MEGABYTES]")
        return master

    @field_validator("driver_memory")
    @classmethod
    def _jvm_size(cls, size: str) -> str:
        if not re.fullmatch(r"[1-9][0-9]*[mgMG]", size):
            raise ValueError("use a whole number with m or g, such as 2g")
        return size

    @field_validator("dagster_url")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^\s/]\S*", url):
            raise ValueError("use an address that starts with http:// or https://")
        return url

    @property
    def on_cluster(self) -> bool:
        """Whether this process is a step on a Databricks cluster."""
        return self.runtime_version is not None

    def profile(self) -> DatabricksProfile:
        """Return the Databricks profile with its overrides from the environment.

        Raises:
            SettingsError: There is no such profile, or one of its fields is invalid.
        """
        from mlops_assets.databricks.profile import load_profile

        return load_profile(self.databricks_profile, os.environ)

    @staticmethod
    def databricks_credentials() -> dict[str, str]:
        """Return the variables that hold the launching side's credentials, by the launcher's field for each.

        Names only: their values are looked up by Dagster when a launcher is made, and masked in its UI.
        """
        if os.environ.get("DATABRICKS_CLIENT_ID"):
            return {"client_id": "DATABRICKS_CLIENT_ID", "client_secret": "DATABRICKS_CLIENT_SECRET"}
        return {"token": "DATABRICKS_TOKEN"}

    def databricks_login(self) -> dict[str, str]:
        """Return the launching side's credentials themselves, as far as they are set.

        For code that calls the workspace outside of a run (doctor, reaper); launchers get theirs from Dagster, masked.
        """
        names = self.databricks_credentials()
        return {field: os.environ[name] for field, name in names.items() if os.environ.get(name)}

    def for_cluster(self) -> dict[str, str]:
        """Return the variables from which a step on a cluster reads this deployment; they hold no secrets."""
        profile = self.profile()
        return {
            "MLOPS_TARGET": "databricks",
            "MLOPS_HOME": "/tmp/mlops_assets",  # noqa: S108 - the cluster is this run's alone
            "MLOPS_DAGSTER_URL": self.dagster_url,
            "MLOPS_DATABRICKS_PROFILE": json.dumps(profile.model_dump(mode="json", by_alias=True)),
        }

    @property
    def mlflow_uri(self) -> str:
        """Tracking and registry store."""
        return self.tracking_uri or f"sqlite:///{self.home / 'mlflow' / 'mlflow.db'}"

    @property
    def mlflow_artifacts(self) -> Path | None:
        """Folder for the artifacts of MLflow runs; None where a server decides.

        A database stores none, and MLflow would put them under the folder that the process was started in.
        """
        a_database = self.mlflow_uri.startswith(_MLFLOW_DATABASES)
        return self.home / "mlflow" / "artifacts" if a_database else None

    @property
    def lakehouse_root(self) -> Path:
        """Folder of the databases of a local target."""
        return self.home / "lakehouse"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance."""
        return self.home / "dagster"


class Settings(Deployment):
    """A deployment, and one model that is described by variables.

    Attributes:
        source: Where its transactions come from, as in `FraudModelSpec`.
        labels: Where files with its late labels arrive, known only after their transactions: a file, folder, glob or
            fsspec URL; without it those of the source, as in `FraudModelSpec`.
        contract: Name of a shipped contract, or path of a YAML file.
        database: Name of the lakehouse database; by default `<contract's name>_<kind of source>`, so that synthetic and
            real rows never share a table. A home that has one named after the contract's file keeps it.
        experiment: MLflow experiment.
        model_name: Name in the MLflow registry; by default `fraud_<database>`.
        retrain_rows: Training is due after this many new rows with known labels.
        retrain_days: Training is due after this many days if there is any new row.
    """

    source: str = Field(default="synthetic", min_length=1)
    labels: str | None = Field(default=None, min_length=1)
    contract: str = Field(default="creditcard", min_length=1)
    database: str = ""
    experiment: str = Field(default="mlops_assets", min_length=1)
    model_name: str = ""
    retrain_rows: int = Field(default=10_000, ge=1)
    retrain_days: float = Field(default=7.0, gt=0, allow_inf_nan=False)

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
            SettingsError: A variable has an invalid value, or a name close to one of ours; the text names each one.
        """
        problems = _misspelt([name.upper() for name in cls.model_fields])
        try:
            settings = cls()
        except ValidationError as error:
            problems += [
                f"{_PREFIX}{str(item['loc'][0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
            ]
        else:
            if not problems:
                return settings
        raise SettingsError(
            "; ".join(problems), where="environment", fix="set the variable to a valid value, or unset it"
        )

    def spec(self) -> FraudModelSpec:
        """Return the model that the variables describe; its keys have no prefix.

        Raises:
            ContractError: The contract is invalid, or it has no `labels` section although `labels` is set.
        """
        from mlops_assets.data.contract.contract import load_contract
        from mlops_assets.spec import FraudModelSpec

        contract = load_contract(self.contract)
        database = self.database or self._database(contract.name)
        labels: dict[str, Any] = {} if self.labels is None else {"labels": self.labels}
        return FraudModelSpec(
            contract=contract,
            source=self.source,
            **labels,
            database=database,
            registered_model=self.model_name or f"fraud_{database}",
            experiment=self.experiment,
            retrain_rows=self.retrain_rows,
            retrain_days=self.retrain_days,
        )

    def _database(self, contract: str) -> str:
        """Return the database that is named after the contract, or a former one of this home."""
        from mlops_assets.spec import source_kind

        kind = source_kind(self.source)
        # Databases were named after the contract's file before they were named after the contract.
        file = re.sub(r"[^a-z0-9_]+", "_", Path(self.contract).stem.lower()).strip("_") or "contract"
        former, named = f"{file}_{kind}", f"{contract}_{kind}"
        is_former = (self.lakehouse_root / former).is_dir() and not (self.lakehouse_root / named).is_dir()
        return former if is_former else named

    def for_cluster(self) -> dict[str, str]:
        """Return the variables from which a step on a cluster reads these same settings; they hold no secrets."""
        spec = self.spec()
        labels = {} if self.labels is None else {"MLOPS_LABELS": self.labels}
        return {
            **super().for_cluster(),
            **labels,
            "MLOPS_SOURCE": self.source,
            "MLOPS_CONTRACT": json.dumps(spec.contract.model_dump(mode="json", exclude_defaults=True)),
            "MLOPS_DATABASE": spec.database,
            "MLOPS_MODEL_NAME": spec.registered_model,
            "MLOPS_EXPERIMENT": spec.experiment,
        }
