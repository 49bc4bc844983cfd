"""Where everything is, and which target runs it: the only reader of the process environment.

What belongs here: names, paths and switches that differ between users and machines, validated, each with one default.
What does not: the variables that describe a model (`settings`), what a data scientist tunes per run (asset config in
the launchpad).

Every field can be set as an environment variable `MLOPS_<FIELD>`; an empty one counts as not set.
"""

from __future__ import annotations

import atexit
import hashlib
import json
import os
import re
import shutil
import tempfile
from dataclasses import fields
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Self

from pydantic import AliasChoices, Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from mlops_assets.errors import SettingsError

if TYPE_CHECKING:
    from mlops_assets.data.sources.limits import Limits
    from mlops_assets.databricks.profile import DatabricksProfile
    from mlops_assets.serving.settings import ServingSettings

# Dagster's pool of the assets that may be launched; an instance limits it (`instance`, `DatabricksProfile`).
LAUNCH_POOL = "databricks_launches"
# Where `mlops ui` serves MLflow if no setting says so.
MLFLOW_UI = "http://127.0.0.1:5001"
_PREFIX = "MLOPS_"
_RUNTIME = "DATABRICKS_RUNTIME_VERSION"
# Overrides of a profile's fields, and what a server is told; these check their names themselves.
_CHECKED_ELSEWHERE = ("MLOPS_DATABRICKS_", "MLOPS_SERVING_")
# The kinds of database that MLflow itself connects to (`mlflow.store.db.utils`), with any driver (`mysql+pymysql`).
_MLFLOW_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
# The host's name says which of the two forms of address it has (Dagster's `link_code_references_to_git`).
_CODE_URL = (
    r"(?P<repository>https://[^/\s@]*(?:github|gitlab)[^/\s@]*(?:/[\w.-]+){2,}?)(?:/-)?/tree/(?P<commit>[\w.-]+)"
)
_MASTER = r"local(\[(\*|[1-9]\d*)(,\s*\d+)?\]|-cluster\[\s*\d+\s*,\s*\d+\s*,\s*\d+\s*\])?"


def _checkout() -> Path:
    """Return the folder that relative paths start from: the checkout if there is one, else the current folder."""
    root = Path(__file__).resolve().parent.parent
    return root if (root / "pyproject.toml").is_file() else Path.cwd()


@cache
def _folder_of_this_process() -> Path:
    """Return the home of a step on a cluster: others use the cluster too, before, after and beside it."""
    folder = tempfile.mkdtemp(prefix="mlops_assets-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(folder)


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:6]


def _misspelt(fields: list[str]) -> list[str]:
    """Return a message for each variable that looks like one of ours and would be silently ignored."""
    ours = [name for name in os.environ if name.startswith(_PREFIX) and not name.startswith(_CHECKED_ELSEWHERE)]
    unknown = [name for name in ours if name.removeprefix(_PREFIX) not in fields]
    guesses = {name: get_close_matches(name.removeprefix(_PREFIX), fields, n=1, cutoff=0.75) for name in unknown}
    return [f"{name}: no such setting; did you mean {_PREFIX}{guess[0]}?" for name, guess in guesses.items() if guess]


class Deployment(BaseSettings):
    """Where everything is, shared by all models of a code location.

    Attributes:
        target: `local` (embedded Spark, Delta and MLflow) or `databricks`.
        home: Folder that holds everything a run writes (tables, MLflow store, Dagster instance, jars, locks); on a
            cluster by default one of this process alone.
        tracking_uri: MLflow store or server; by default a SQLite store under `home`.
        spark_master: Spark master of the embedded session.
        driver_memory: Heap of the embedded Spark, in JVM notation.
        dagster_url: Address of the Dagster UI, for links from MLflow runs.
        mlflow_ui: Address of MLflow's UI, for links from Dagster; by default that of the tracking server, and with an
            embedded store `MLFLOW_UI`, where `mlops ui` serves it.
        code_url: Address of this code at a commit, for links from assets: `https://github.com/<owner>/<repository>/tree/
            <commit>`, or the same of GitLab. Without it assets link to the local files.
        java_home: The process's JAVA_HOME, unless MLOPS_JAVA_HOME overrides it.
        databricks_profile: With target `databricks`: `dev`, `staging`, `prod`, or the path of a YAML file.
        automation: `on` starts sensors, conditions and schedules with the daemon; `off` leaves them to be switched on
            in the UI.
        alert_webhook: URL that a message for each failed run is posted to; without it, messages go to the log.
        input_limits: Limits of files that are loaded, where they differ from those of `data.sources.limits`; JSON.
        runtime_version: The Databricks Runtime that this process runs on; None anywhere else.
        is_branch_deployment: Whether this is a branch deployment of Dagster+, which sets the variable.
        deployment_name: Name of the deployment in Dagster+.
    """

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True)

    target: Literal["local", "databricks"] = "local"
    home: Path = Path(".mlops")
    tracking_uri: str = ""
    spark_master: str = "local[*]"
    driver_memory: str = "2g"
    dagster_url: str = "http://127.0.0.1:3000"
    mlflow_ui: str = ""
    code_url: str = ""
    java_home: str | None = Field(default=None, validation_alias=AliasChoices("MLOPS_JAVA_HOME", "JAVA_HOME"))
    databricks_profile: str = Field(default="dev", min_length=1)
    automation: Literal["on", "off"] = "off"
    alert_webhook: SecretStr | None = None
    input_limits: dict[str, int] = {}
    runtime_version: str | None = Field(default=None, validation_alias=_RUNTIME)
    is_branch_deployment: bool = Field(default=False, validation_alias="DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT")
    deployment_name: str = Field(default="", validation_alias="DAGSTER_CLOUD_DEPLOYMENT_NAME")

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        if os.environ.get(_RUNTIME) and not os.environ.get("MLOPS_HOME"):
            return _folder_of_this_process()
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

    @field_validator("dagster_url", "mlflow_ui")
    @classmethod
    def _web_address(cls, url: str) -> str:
        if url and not re.fullmatch(r"https?://[^\s/]\S*", url):
            raise ValueError("use an address that starts with http:// or https://")
        return url

    @field_validator("code_url")
    @classmethod
    def _at_a_commit(cls, url: str) -> str:
        if url and not re.fullmatch(_CODE_URL, url):
            raise ValueError("use https://<github or gitlab>/<owner>/<repository>/tree/<commit>")
        return url

    @field_validator("input_limits")
    @classmethod
    def _known_limits(cls, limits: dict[str, int]) -> dict[str, int]:
        if not limits:
            return limits
        from mlops_assets.data.sources.limits import Limits

        names = [field.name for field in fields(Limits)]
        if wrong := [name for name, value in limits.items() if name not in names or value < 1]:
            raise ValueError(f"{', '.join(wrong)}: use positive numbers for {', '.join(names)}")
        return limits

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

    @property
    def limits(self) -> Limits:
        """How large a file may be that is loaded."""
        from mlops_assets.data.sources.limits import Limits

        return Limits(**self.input_limits)

    @property
    def on_cluster(self) -> bool:
        """Whether this process is a step on a Databricks cluster."""
        return self.runtime_version is not None

    @property
    def branch(self) -> str:
        """Name of the branch deployment, as part of names of tables and models; empty in any other deployment.

        What a branch deployment writes has this in its name, whatever else is set: it can't write to production's
        schema, registered models or experiments.

        Raises:
            SettingsError: It has no name.
        """
        if not self.is_branch_deployment:
            return ""
        name = re.sub(r"[^a-z0-9]+", "_", self.deployment_name.lower()).strip("_")
        if not name:
            raise SettingsError(
                "a branch deployment without a name: its tables and models would be production's",
                where="DAGSTER_CLOUD_DEPLOYMENT_NAME",
                fix="set it to a name that no other branch deployment has",
            )
        same = name == self.deployment_name
        return f"branch_{name}" if same else f"branch_{name}_{_short_hash(self.deployment_name)}"

    @property
    def starts_runs(self) -> bool:
        """Whether sensors and schedules exist here: not on a cluster, and not in a branch deployment."""
        return not self.on_cluster and not self.is_branch_deployment

    def profile(self) -> DatabricksProfile:
        """Return the Databricks profile with its overrides from the environment; a branch's own schema and tables.

        Raises:
            SettingsError: There is no such profile, one of its fields is invalid, or a branch deployment has no name.
        """
        from mlops_assets.databricks.profile import load_profile

        profile = load_profile(self.databricks_profile, os.environ)
        # A step on a cluster receives a profile in which the branch is named already.
        return profile.of_branch(self.branch) if self.branch and not self.on_cluster else profile

    @staticmethod
    def serving(**given: object) -> ServingSettings:
        """Return the settings of a server, from variables `MLOPS_SERVING_<FIELD>`.

        Args:
            given: Values that take precedence; None counts as not given.

        Raises:
            SettingsError: A variable is misspelt or out of range.
        """
        from mlops_assets.serving.settings import read_serving

        return read_serving(os.environ, **given)

    @staticmethod
    def databricks_credentials() -> dict[str, str]:
        """Return the variables that hold the launching side's credentials, by the launcher's field for each.

        Names only: their values are looked up by Dagster when a launcher is made, and masked in its UI. Empty if there
        are none, or DATABRICKS_AUTH_TYPE names another kind: then databricks-sdk looks for a login itself.
        """
        kinds = {
            "oauth-m2m": {"client_id": "DATABRICKS_CLIENT_ID", "client_secret": "DATABRICKS_CLIENT_SECRET"},
            "pat": {"token": "DATABRICKS_TOKEN"},
        }
        asked = os.environ.get("DATABRICKS_AUTH_TYPE")
        for kind, names in kinds.items():
            if asked in (None, "", kind) and all(os.environ.get(name) for name in names.values()):
                return names
        return {}

    @staticmethod
    def databricks_login() -> dict[str, str]:
        """Return the launching side's credentials themselves; empty if databricks-sdk is to look for a login.

        For code that calls the workspace outside of a run (doctor, reaper); launchers get theirs from Dagster, masked.
        """
        names = Deployment.databricks_credentials()
        return {field: os.environ[name] for field, name in names.items()}

    def for_cluster(self) -> dict[str, str]:
        """Return the variables from which a step on a cluster reads this deployment; they hold no secrets."""
        profile = self.profile()
        return {
            "MLOPS_TARGET": "databricks",
            "MLOPS_DAGSTER_URL": self.dagster_url,
            "MLOPS_MLFLOW_UI": self.mlflow_pages,
            "MLOPS_INPUT_LIMITS": json.dumps(self.input_limits),
            "MLOPS_DATABRICKS_PROFILE": json.dumps(profile.model_dump(mode="json", by_alias=True)),
            **(
                {"DAGSTER_CLOUD_IS_BRANCH_DEPLOYMENT": "1", "DAGSTER_CLOUD_DEPLOYMENT_NAME": self.deployment_name}
                if self.is_branch_deployment
                else {}
            ),
        }

    @property
    def mlflow_pages(self) -> str:
        """Where MLflow's UI is."""
        uri = self.tracking_uri
        if self.mlflow_ui:
            return self.mlflow_ui
        if self.target == "databricks":
            profile = self.profile()
            if profile.tracking_uri.startswith("databricks"):
                return f"{profile.host.rstrip('/')}/ml"
            uri = profile.tracking_uri
        # An address may hold a user and a password.
        return re.sub(r"://[^/@]+@", "://", uri).rstrip("/") if uri.startswith(("http://", "https://")) else MLFLOW_UI

    @property
    def code_at(self) -> tuple[str, str] | None:
        """The repository's address, and the commit of this code; None where that is not known."""
        found = re.fullmatch(_CODE_URL, self.code_url)
        return None if found is None else (found["repository"], found["commit"])

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
        return self.home / "lakehouse" if not self.branch else self.home / "branches" / self.branch / "lakehouse"

    @property
    def dagster_home(self) -> Path:
        """Folder of the Dagster instance."""
        return self.home / "dagster"
