"""Settings come from MLOPS_* variables; a bad one is refused by its name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

import mlops_assets.settings
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import SettingsError
from mlops_assets.settings import Settings

CHECKOUT = Path(__file__).resolve().parent.parent
PACKAGE = Path(mlops_assets.settings.__file__).parent
Read = Callable[..., Settings]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """Read the settings in an environment that holds the given variables and none else of ours."""

    def in_environment(**variables: str) -> Settings:
        for name in os.environ:
            if name.upper().startswith("MLOPS_") or name == "JAVA_HOME":
                monkeypatch.delenv(name)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        return Settings.from_environment()

    return in_environment


def test_the_defaults_are_a_synthetic_demo_under_the_checkout(read: Read):
    settings = read()

    assert settings.home == CHECKOUT / ".mlops"
    assert (settings.source, settings.contract) == ("synthetic", "creditcard")
    spec = settings.spec()
    assert (spec.name, spec.source_kind, spec.contract.name) == ("", "synthetic", "creditcard")
    assert (spec.database, spec.registered_model) == ("creditcard_synthetic", "fraud_creditcard_synthetic")
    assert settings.mlflow_uri == f"sqlite:///{CHECKOUT}/.mlops/mlflow/mlflow.db"
    assert settings.mlflow_artifacts == CHECKOUT / ".mlops" / "mlflow" / "artifacts"
    assert settings.dagster_home == CHECKOUT / ".mlops" / "dagster"
    assert (settings.spark_master, settings.driver_memory, settings.java_home) == ("local[*]", "2g", None)


def test_each_variable_sets_its_field(read: Read):
    settings = read(
        MLOPS_HOME="/data/mlops",
        MLOPS_SOURCE="/data/in/*.csv",
        MLOPS_LABELS="/data/labels",
        MLOPS_CONTRACT="handbook",
        MLOPS_DATABASE="cards_2018",
        MLOPS_EXPERIMENT="tuning",
        MLOPS_MODEL_NAME="cards",
        MLOPS_TRACKING_URI="http://127.0.0.1:5000",
        MLOPS_SPARK_MASTER="local[2]",
        MLOPS_DRIVER_MEMORY="512m",
        MLOPS_DAGSTER_URL="https://dagster.example.org/ui",
        MLOPS_MLFLOW_UI="https://mlflow.example.org",
        MLOPS_CODE_URL="https://github.com/bank/fraud/tree/0f3c9d1",
        MLOPS_DATABRICKS_PROFILE="prod",
        MLOPS_AUTOMATION="on",
        MLOPS_ALERT_WEBHOOK="https://127.0.0.1/hook",
        MLOPS_INPUT_LIMITS='{"rows": 1000}',
        MLOPS_RETRAIN_ROWS="500",
        MLOPS_RETRAIN_DAYS="1.5",
        MLOPS_FIRST_DAY="2026-02-28",
        JAVA_HOME="/opt/java",
    )

    assert settings.model_dump() == {
        "target": "local",
        "databricks_profile": "prod",
        "runtime_version": None,
        "home": Path("/data/mlops"),
        "source": "/data/in/*.csv",
        "labels": "/data/labels",
        "contract": "handbook",
        "database": "cards_2018",
        "experiment": "tuning",
        "model_name": "cards",
        "tracking_uri": "http://127.0.0.1:5000",
        "spark_master": "local[2]",
        "driver_memory": "512m",
        "dagster_url": "https://dagster.example.org/ui",
        "mlflow_ui": "https://mlflow.example.org",
        "code_url": "https://github.com/bank/fraud/tree/0f3c9d1",
        "java_home": "/opt/java",
        "automation": "on",
        "alert_webhook": SecretStr("https://127.0.0.1/hook"),
        "input_limits": {"rows": 1000},
        "inference_log": None,
        "batch_scores": None,
        "retrain_rows": 500,
        "retrain_days": 1.5,
        "first_day": date(2026, 2, 28),
        "is_branch_deployment": False,
        "deployment_name": "",
    }
    spec = settings.model_copy(update={"labels": None}).spec()
    assert (spec.database, spec.registered_model, spec.experiment) == ("cards_2018", "cards", "tuning")
    assert (spec.retrain_rows, spec.retrain_days, spec.first_day) == (500, 1.5, date(2026, 2, 28))
    assert settings.mlflow_uri == "http://127.0.0.1:5000"
    assert settings.mlflow_artifacts is None
    assert settings.mlflow_pages == "https://mlflow.example.org"
    assert settings.code_at == ("https://github.com/bank/fraud", "0f3c9d1")


@pytest.mark.parametrize(
    ("variables", "pages"),
    [
        ({}, "http://127.0.0.1:5001"),
        ({"MLOPS_TRACKING_URI": "http://user:secret@mlflow:5000/"}, "http://mlflow:5000"),
        ({"MLOPS_TRACKING_URI": "postgresql://mlflow@db/mlflow"}, "http://127.0.0.1:5001"),
        ({"MLOPS_TARGET": "databricks"}, "https://example.azuredatabricks.net/ml"),
        ({"MLOPS_TARGET": "databricks", "MLOPS_DATABRICKS_TRACKING_URI": "https://mlflow"}, "https://mlflow"),
    ],
)
def test_mlflows_pages_are_where_the_runs_are(
    read: Read, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], pages: str
):
    settings = read(**variables, MLOPS_DATABRICKS_HOST="https://example.azuredatabricks.net")

    assert settings.mlflow_pages == pages


@pytest.mark.parametrize(
    "code_url",
    ["https://github.com/bank/fraud", "https://bank.example/fraud/tree/1", "https://user:x@github.com/a/b/tree/1"],
)
def test_a_code_url_that_is_no_commit_of_a_known_host_is_refused(read: Read, code_url: str):
    with pytest.raises(SettingsError, match="MLOPS_CODE_URL: use https://<github or gitlab>"):
        read(MLOPS_CODE_URL=code_url)


@pytest.mark.parametrize(
    ("uri", "kept_at_home"),
    [
        ("sqlite:////elsewhere/mlflow.db", True),
        ("postgresql+psycopg2://127.0.0.1/mlflow", True),
        ("mysql://127.0.0.1/mlflow", True),
        ("https://127.0.0.1:5000", False),
        ("databricks", False),
    ],
)
def test_a_database_holds_no_artifacts_and_the_folder_of_the_process_is_no_place_for_them(
    read: Read, tmp_path: Path, uri: str, *, kept_at_home: bool
):
    settings = read(MLOPS_TRACKING_URI=uri, MLOPS_HOME=str(tmp_path))

    assert settings.mlflow_artifacts == (tmp_path / "mlflow" / "artifacts" if kept_at_home else None)


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("MLOPS_DATABASE", "Cards", "lower-case letters"),
        ("MLOPS_DATABASE", "2018_cards", "starting with a letter"),
        ("MLOPS_DATABASE", "../elsewhere", "lower-case letters"),
        ("MLOPS_MODEL_NAME", "my model", "lower-case letters"),
        ("MLOPS_SPARK_MASTER", "yarn", r"local\[N\]"),
        ("MLOPS_SPARK_MASTER", "spark://host:7077", r"local\[N\]"),
        ("MLOPS_SPARK_MASTER", "local[0]", r"local\[N\]"),
        ("MLOPS_SPARK_MASTER", "local[two]", r"local\[N\]"),
        ("MLOPS_SPARK_MASTER", "local-cluster[2,1]", "local-cluster"),
        ("MLOPS_DRIVER_MEMORY", "2", "such as 2g"),
        ("MLOPS_DRIVER_MEMORY", "0g", "such as 2g"),
        ("MLOPS_DRIVER_MEMORY", "2 GB", "such as 2g"),
        ("MLOPS_DAGSTER_URL", "localhost:3000", "http://"),
        ("MLOPS_DAGSTER_URL", "https://", "http://"),
        ("MLOPS_HOME", "~no-such-user-here/mlops", "no such user"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_variable(read: Read, variable: str, value: str, said: str):
    with pytest.raises(SettingsError, match=rf"^{variable}: .*{said}.* \[environment\] Fix: ") as caught:
        read(**{variable: value})
    assert "Value error" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("MLOPS_SPARK_MASTER", "local"),
        ("MLOPS_SPARK_MASTER", "local[*]"),
        ("MLOPS_SPARK_MASTER", "local[16]"),
        ("MLOPS_SPARK_MASTER", "local[*,2]"),
        ("MLOPS_SPARK_MASTER", "local-cluster[2, 1, 1024]"),
        ("MLOPS_DRIVER_MEMORY", "4G"),
        ("MLOPS_DATABASE", "a"),
    ],
)
def test_an_unusual_but_good_value_is_kept(read: Read, variable: str, value: str):
    assert read(**{variable: value}).model_dump()[variable.removeprefix("MLOPS_").lower()] == value


def test_all_bad_variables_are_named_at_once(read: Read):
    with pytest.raises(SettingsError) as caught:
        read(MLOPS_DATABASE="No", MLOPS_DRIVER_MEMORY="lots", MLOPS_SUORCE="openml")

    assert all(name in caught.value.what for name in ("MLOPS_DATABASE", "MLOPS_DRIVER_MEMORY", "MLOPS_SUORCE"))


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("MLOPS_SUORCE", "MLOPS_SOURCE"),
        ("MLOPS_DATABASE_NAME", "MLOPS_DATABASE"),
        ("MLOPS_DRIVER_MEM", "MLOPS_DRIVER_MEMORY"),
    ],
)
def test_a_misspelt_variable_is_not_ignored_in_silence(read: Read, misspelt: str, meant: str):
    with pytest.raises(SettingsError, match=f"{misspelt}: no such setting; did you mean {meant}"):
        read(**{misspelt: "x"})


def test_variables_of_others_are_let_be(read: Read):
    assert read(MLOPS_RELEASE_CHANNEL="beta", OTHER="x").source == "synthetic"


def test_an_empty_variable_counts_as_not_set(read: Read):
    """Otherwise an empty MLOPS_HOME would write into the checkout itself."""
    names = [f"MLOPS_{name.upper()}" for name in Settings.model_fields]

    assert read(**dict.fromkeys([*names, "JAVA_HOME"], "")) == read()


def test_java_home_of_the_process_is_used_unless_ours_names_another(read: Read):
    assert read(JAVA_HOME="/usr/lib/jvm/17").java_home == "/usr/lib/jvm/17"
    assert read(JAVA_HOME="/usr/lib/jvm/17", MLOPS_JAVA_HOME="/usr/lib/jvm/21").java_home == "/usr/lib/jvm/21"


def test_a_relative_home_starts_at_the_checkout_wherever_the_process_stands(
    read: Read, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)

    assert read(MLOPS_HOME="work/../mine").home == CHECKOUT / "mine"
    assert read(MLOPS_HOME="/srv/mlops").home == Path("/srv/mlops")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert read(MLOPS_HOME="~/mlops").home == tmp_path / "mlops"


def test_without_a_checkout_a_relative_home_starts_at_the_current_folder(tmp_path: Path):
    """An installed package has no pyproject.toml beside it, and its own folder is no place to write to."""
    installed = tmp_path / "installed" / "mlops_assets"
    installed.mkdir(parents=True)
    for name in ("__init__.py", "deployment.py", "errors.py", "foreign_text.py", "settings.py"):
        shutil.copy(PACKAGE / name, installed)
    work = tmp_path / "work"
    work.mkdir()
    code = "from mlops_assets.settings import Settings; print(Settings.from_environment().home)"

    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=work,
        env={"PYTHONPATH": str(installed.parent), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.strip() == str(work.resolve() / ".mlops")


@pytest.mark.parametrize(
    ("source", "kind"),
    [
        ("synthetic", "synthetic"),
        ("openml", "openml"),
        ("openml:CreditCardFraudDetection", "openml"),
        ("openml:42175", "openml"),
        ("openml.csv", "files"),
        ("synthetic.csv", "files"),
        ("/data/cards", "files"),
        ("s3://bucket/cards/*.parquet", "files"),
    ],
)
def test_the_kind_of_a_source(read: Read, source: str, kind: str):
    spec = read(MLOPS_SOURCE=source).spec()

    assert spec.source_kind == kind
    assert spec.database == f"creditcard_{kind}"


def test_generated_cards_need_no_variable_for_their_reports(read: Read):
    spec = read(MLOPS_SOURCE="cards", MLOPS_CONTRACT="cards").spec()

    assert (spec.source_kind, spec.labels) == ("cards", "cards")
    assert read(MLOPS_SOURCE="cards", MLOPS_CONTRACT="cards", MLOPS_LABELS="/labels").spec().labels == "/labels"


def test_a_new_database_is_named_after_the_contract_and_not_after_its_file(read: Read, tmp_path: Path):
    file = tmp_path / "My Cards-v2.yaml"
    file.write_text(load_contract("creditcard").to_yaml())
    settings = read(MLOPS_CONTRACT=str(file), MLOPS_HOME=str(tmp_path))

    assert settings.spec().database == "creditcard_synthetic"
    (settings.lakehouse_root / "creditcard_synthetic").mkdir(parents=True)
    assert settings.spec().database == "creditcard_synthetic"


@pytest.mark.parametrize(("file", "name"), [("My Cards-v2.yaml", "my_cards_v2"), ("éé.yaml", "contract")])
def test_a_home_keeps_the_database_that_was_named_after_the_file(read: Read, tmp_path: Path, file: str, name: str):
    (tmp_path / file).write_text(load_contract("creditcard").to_yaml())
    settings = read(MLOPS_CONTRACT=str(tmp_path / file), MLOPS_HOME=str(tmp_path))
    (settings.lakehouse_root / f"{name}_synthetic").mkdir(parents=True)

    spec = settings.spec()

    assert (spec.database, spec.registered_model) == (f"{name}_synthetic", f"fraud_{name}_synthetic")


def test_settings_can_be_made_in_code_but_not_changed(tmp_path: Path):
    settings = Settings(home=tmp_path, source="openml")

    assert settings.home == tmp_path
    with pytest.raises(ValidationError, match="frozen"):
        settings.source = "synthetic"
    with pytest.raises(ValidationError, match="suorce"):
        Settings(suorce="openml")  # type: ignore[call-arg]
    with pytest.raises(ValidationError, match="source"):
        Settings(source="")
