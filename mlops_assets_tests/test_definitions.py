"""The code location: what it holds, how light it loads, and which way its imports point."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

import mlops_assets
from mlops_assets.assets.naming import STAGE_TAG
from mlops_assets.assets.sources import source_of
from mlops_assets.definitions import build_defs
from mlops_assets.errors import ContractError
from mlops_assets.resources.placement import CLUSTER_KEYS
from mlops_assets.resources.tracking import Tracking
from mlops_assets.settings import Settings

PACKAGE = Path(mlops_assets.__file__).parent
CHECKOUT = PACKAGE.parent
SNAPSHOT = Path(__file__).parent / "snapshots" / "asset_specs.json"
HEAVY = ("pyspark", "xgboost", "hyperopt", "mlflow", "sklearn", "matplotlib", "pandas", "databricks")
# Rooms that know no Dagster.
PURE = ("data", "lakehouse", "tracking", "evaluation", "training", "registry", "serving")
# Which rooms a room may import; a room may always import itself and the modules of TOP. `definitions` is a module, and
# held to the rules of a room: it binds what the others hold, so none but the command line may import it.
LAYERS: dict[str, set[str]] = {
    "data": set(),
    "spec": {"data"},
    "lakehouse": {"data"},
    "tracking": {"data"},
    "evaluation": {"data"},
    "training": {"data", "lakehouse", "tracking", "evaluation"},
    "registry": {"data", "lakehouse", "tracking", "evaluation", "training"},
    "serving": {"data", "spec", "tracking", "registry"},
    "databricks": set(),
    "resources": {"data", "spec", "lakehouse", "tracking", "evaluation", "training", "registry", "databricks"},
    "assets": {"data", "spec", "lakehouse", "tracking", "evaluation", "training", "registry", "serving", "resources"},
    "diagnostics": {"data", "spec", "lakehouse", "tracking", "registry", "databricks", "resources"},
    "automation": {"assets", "data", "spec", "diagnostics", "registry", "serving", "resources"},
    "fraud_model": {"data", "spec", "lakehouse", "databricks", "resources", "assets", "automation"},
    "instance": set(),
    "definitions": {"assets", "fraud_model"},
    "testing": {"data", "spec", "lakehouse", "resources", "assets", "fraud_model"},
    "cli": {
        "data",
        "spec",
        "lakehouse",
        "tracking",
        "training",
        "registry",
        "databricks",
        "resources",
        "assets",
        "automation",
    }
    | {"diagnostics", "instance", "fraud_model", "definitions", "serving"},
}
# The modules at the top that every room may import.
TOP = {"dagster_internals", "deployment", "errors", "foreign_text", "lineage", "processes", "retries", "settings"}


def described(definitions: dg.Definitions) -> list[dict[str, Any]]:
    """Return all asset specs as plain values, without what differs between machines."""
    specs: list[dict[str, Any]] = [
        {
            "key": spec.key.to_user_string(),
            "deps": sorted(dep.asset_key.to_user_string() for dep in spec.deps),
            "group": spec.group_name,
            "stage": spec.tags.get(STAGE_TAG),
            "kinds": sorted(spec.kinds),
            "owners": list(spec.owners),
            "description": spec.description,
            "metadata": sorted(spec.metadata),
            "code_version": spec.code_version,
        }
        for spec in sorted(definitions.resolve_all_asset_specs(), key=lambda found: found.key.to_user_string())
    ]
    checks = sorted(
        f"{check.asset_key.to_user_string()}: {check.name}{' (blocking)' if check.blocking else ''}"
        for found in definitions.assets or []
        if isinstance(found, dg.AssetsDefinition)
        for check in found.check_specs
    )
    return [*specs, {"checks": checks}]


def test_the_asset_specs_are_the_ones_on_record(settings: Settings):
    """A changed graph is a decision: write the snapshot anew by deleting the file and running this test once."""
    found = described(build_defs(settings))
    if not SNAPSHOT.exists():
        SNAPSHOT.parent.mkdir(exist_ok=True)
        SNAPSHOT.write_text(json.dumps(found, indent=2) + "\n")
        pytest.fail(f"{SNAPSHOT.name} was written: look at it, commit it, run again")

    assert found == json.loads(SNAPSHOT.read_text())


def test_the_snapshot_names_no_secret_and_no_machine():
    text = SNAPSHOT.read_text()

    for word in ("token", "password", "secret", str(CHECKOUT), "/home/", "http://", "https://"):
        assert word not in text


def test_every_asset_has_group_kinds_owner_and_description(settings: Settings):
    for spec in build_defs(settings).resolve_all_asset_specs():
        assert spec.group_name
        assert spec.kinds
        assert spec.owners
        assert spec.description
        assert "dagster/code_references" in spec.metadata


def test_code_references_lead_to_the_files_here_or_to_the_commit_that_is_deployed(tmp_path: Path):
    def references(code_url: str) -> dict[str, Any]:
        specs = build_defs(Settings(home=tmp_path, code_url=code_url)).resolve_all_asset_specs()
        found = {spec.key.to_user_string(): spec.metadata["dagster/code_references"] for spec in specs}
        return {name: value.code_references[0] for name, value in found.items()}

    assert {type(found) for found in references("").values()} == {dg.LocalFileCodeReference}
    here = references("")["tuned_model"]
    assert Path(here.file_path).read_text().splitlines()[here.line_number - 1].strip().startswith("@dg.asset")

    for code_url, base in (
        ("https://github.com/bank/fraud/tree/0f3c9d1", "https://github.com/bank/fraud/tree/0f3c9d1"),
        ("https://gitlab.com/bank/ml/fraud/-/tree/v1.2", "https://gitlab.com/bank/ml/fraud/-/tree/v1.2"),
    ):
        there = references(code_url)
        assert there["tuned_model"].url == f"{base}/mlops_assets/assets/tuned_model.py#L{here.line_number}"
        assert there["transaction_source"].url.startswith(f"{base}/mlops_assets/assets/sources.py#L")


def test_table_names_are_those_of_the_databases(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    names = []
    for target in ("local", "databricks"):
        specs = build_defs(Settings(home=tmp_path, target=target)).resolve_all_asset_specs()
        names += [spec.metadata["dagster/table_name"] for spec in specs if spec.key == dg.AssetKey("train_set")]

    assert names == ["creditcard_synthetic.train_set", "main.mlops_assets_dev.train_set"]


def test_loading_the_code_location_imports_no_heavy_library():
    code = f"import sys, mlops_assets.definitions\nprint([m for m in {HEAVY!r} if m in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)

    assert found.stdout.strip() == "[]"


def test_the_guard_on_imports_can_fail():
    code = f"import sys, mlops_assets.training.search.search\nprint([m for m in {HEAVY!r} if m in sys.modules])"

    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=CHECKOUT)

    assert "pyspark" in found.stdout


def imports_of(path: Path) -> set[str]:
    """Return the full names of all modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms_of(package: Path) -> dict[Path, str]:
    """Return the room of each file; a module at the top is a room of its own."""
    return {path: path.relative_to(package).parts[0].removesuffix(".py") for path in sorted(package.rglob("*.py"))}


def wrong_imports(package: Path) -> list[str]:
    """Return each import that points against the layers."""
    wrong = []
    for path, room in rooms_of(package).items():
        if room not in LAYERS:
            continue
        for name in imports_of(path):
            parts = name.split(".")
            if parts[0] in ("dagster", "databricks") or parts[0].startswith("dagster_"):
                if room in PURE:
                    wrong.append(f"{path.relative_to(package)} imports {name}: pure rooms know no Dagster")
            elif parts[0] == "mlops_assets" and len(parts) > 1 and parts[1] in LAYERS.keys() - LAYERS[room] - {room}:
                wrong.append(f"{path.relative_to(package)} imports {name}: against the layers")
    return wrong


def circles(package: Path) -> list[str]:
    """Return each pair of rooms of which one leads to the other and back, over any number of rooms."""
    leads: dict[str, set[str]] = {}
    for path, room in rooms_of(package).items():
        parts = [name.split(".") for name in imports_of(path)]
        leads.setdefault(room, set()).update(found[1] for found in parts if found[0] == "mlops_assets" and found[1:])
    for between, further in leads.items():
        for reached in leads.values():
            if between in reached:
                reached.update(further)
    return sorted({f"{min(a, b)} <-> {max(a, b)}" for a in leads for b in leads[a] - {a} if a in leads.get(b, ())})


def test_imports_point_one_way():
    assert wrong_imports(PACKAGE) == []


def test_every_room_is_guarded():
    assert set(rooms_of(PACKAGE).values()) - {"__init__"} - TOP - LAYERS.keys() == set()


def test_no_room_leads_back_to_itself():
    assert circles(PACKAGE) == []


def test_the_layer_guard_sees_an_import_against_the_layers(tmp_path: Path):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "bad.py").write_text("import dagster as dg\n")
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "bad.py").write_text(
        "def late():\n    from mlops_assets.assets.splits import TABLES\n    return TABLES\n"
    )

    assert len(wrong_imports(tmp_path)) == 2


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("diagnostics/checkup.py", "mlops_assets.definitions"),
        ("automation/doctor.py", "mlops_assets.definitions"),
        ("automation/doctor.py", "mlops_assets.cli.doctor"),
        ("definitions.py", "mlops_assets.cli.main"),
        ("cli/demo.py", "mlops_assets.testing.rows"),
        ("testing/rows.py", "mlops_assets.cli.demo"),
        ("instance/home.py", "mlops_assets.resources.spark"),
        ("assets/splits.py", "mlops_assets.automation.jobs"),
    ],
)
def test_the_layer_guard_sees_who_imports_what_binds_them(tmp_path: Path, module: str, imported: str):
    planted = tmp_path / module
    planted.parent.mkdir(exist_ok=True)
    planted.write_text(f"def late():\n    from {imported} import something\n    return something\n")

    assert wrong_imports(tmp_path) == [f"{module} imports {imported}.something: against the layers"]


def test_a_circle_between_rooms_is_noticed(tmp_path: Path):
    """The one that there was: definitions -> automation -> diagnostics -> definitions."""
    for module, text in {
        "definitions.py": "from mlops_assets.automation.doctor import doctor_job\n",
        "automation/doctor.py": "def job():\n    from mlops_assets.diagnostics.doctor import examine\n    examine()\n",
        "diagnostics/doctor.py": "def examine():\n    from mlops_assets.definitions import build_defs\n",
        "cli/doctor.py": "from mlops_assets.diagnostics.doctor import examine\n",
    }.items():
        (tmp_path / module).parent.mkdir(exist_ok=True)
        (tmp_path / module).write_text(text)

    pairs = ["automation <-> definitions", "automation <-> diagnostics", "definitions <-> diagnostics"]
    assert circles(tmp_path) == pairs
    assert "diagnostics/doctor.py imports mlops_assets.definitions.build_defs: against the layers" in str(
        wrong_imports(tmp_path)
    )


def readers_of_the_environment(package: Path) -> list[str]:
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or node.attr not in ("environ", "getenv"):
                continue
            if isinstance(node.value, ast.Name) and node.value.id == "os":
                found.append(path.relative_to(package).as_posix())
    return sorted(set(found))


def test_only_the_deployment_reads_the_environment():
    """spark.py sets variables for its workers, metrics.py one for prometheus_client, the demo on a loopback workspace
    those that lead to that workspace; the scripts start on a cluster before there is a deployment.
    """
    scripts = {"databricks/launch/cluster_main.py", "databricks/pipes_main.py", "diagnostics/errand_on_cluster.py"}
    allowed = {"deployment.py", "resources/spark.py", "serving/metrics.py", "cli/demo_databricks.py", *scripts}

    assert set(readers_of_the_environment(PACKAGE)) <= allowed


def test_every_module_says_what_belongs_in_it():
    silent = []
    for path in sorted(PACKAGE.rglob("*.py")):
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        if path.name != "__init__.py" and "What belongs here" not in text:
            silent.append(str(path.relative_to(PACKAGE)))

    assert silent == []


def test_a_broken_setting_is_one_clear_error_at_load(tmp_path: Path):
    environment = {**os.environ, "MLOPS_CONTRACT": str(tmp_path / "none.yaml"), "MLOPS_HOME": str(tmp_path)}

    found = subprocess.run(
        [sys.executable, "-c", "import mlops_assets.definitions"],
        capture_output=True,
        text=True,
        check=False,
        cwd=CHECKOUT,
        env=environment,
    )

    assert found.returncode != 0
    last = found.stderr.strip().splitlines()[-1]
    assert "ContractError: no such contract" in last
    assert "none.yaml" in last


def test_resources_can_be_replaced_one_by_one(settings: Settings):
    other = Tracking(mlflow_tracking_uri="sqlite:///other.db")

    definitions = build_defs(settings, tracking=other)

    assert (definitions.resources or {})["tracking"] is other


def test_the_target_changes_the_resources_and_not_one_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    local, databricks = (build_defs(Settings(home=tmp_path, target=target)) for target in ("local", "databricks"))

    assert described(databricks) == described(local)
    jobs = [sorted(job.name for job in found.jobs or []) for found in (local, databricks)]
    expected = ["build_model", "doctor", "load_data", "main", "repair_tables", "replay_quarantine", "revert_batches"]
    assert jobs == [[*expected, "rollback", "train_as_of", "upkeep", "verify"]] * 2
    assert set(databricks.resources or {}) == set(local.resources or {})
    assert (databricks.resources or {})["loader_cluster"].active is True
    assert (local.resources or {})["loader_cluster"].active is False


def test_each_asset_names_its_cost_class_and_the_sets_share_one_launch(settings: Settings):
    classes = {
        tuple(sorted(key.to_user_string() for key in asset.keys)): sorted(
            CLUSTER_KEYS.keys() & asset.required_resource_keys
        )
        for asset in build_defs(settings).assets or []
        if isinstance(asset, dg.AssetsDefinition) and asset.is_executable
    }

    assert classes == {
        ("quarantined_transactions", "raw_transactions"): ["loader_cluster"],
        ("test_set", "train_set", "validation_set"): ["loader_cluster"],
        ("tuned_model",): ["trials_cluster"],
        ("registered_model",): ["loader_cluster"],
        ("table_upkeep",): ["loader_cluster"],
        ("as_of_backtest",): ["trials_cluster"],
    }


@pytest.mark.parametrize(
    "credentials",
    [
        {"DATABRICKS_TOKEN": "dapi-of-a-person"},
        {"DATABRICKS_CLIENT_ID": "app-id", "DATABRICKS_CLIENT_SECRET": "dose-of-an-app"},
    ],
)
def test_no_credential_is_in_what_the_ui_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, credentials: dict[str, str]
):
    for name in ("DATABRICKS_TOKEN", "DATABRICKS_CLIENT_ID", "DATABRICKS_CLIENT_SECRET"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {**credentials, "MLOPS_DATABRICKS_HOST": "https://example.azuredatabricks.net"}.items():
        monkeypatch.setenv(name, value)

    told = str(RepositorySnap.from_def(build_defs(Settings(home=tmp_path, target="databricks")).get_repository_def()))

    assert "loader_cluster" in told
    for value in credentials.values():
        assert value not in told


def test_a_step_on_the_cluster_reads_the_same_settings_and_launches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://example.azuredatabricks.net")
    here = Settings(home=tmp_path, target="databricks", contract="handbook")
    travelling, profile = here.for_cluster(), here.profile()
    monkeypatch.delenv("MLOPS_DATABRICKS_HOST")
    for name, value in {**travelling, "DATABRICKS_RUNTIME_VERSION": "18.2"}.items():
        monkeypatch.setenv(name, value)

    there = Settings.from_environment()

    assert there.on_cluster
    assert there.spec() == here.spec()
    assert there.profile() == profile
    resources = build_defs(there).resources or {}
    assert resources["trials_cluster"].get_object_to_set_on_execution_context() is None


@pytest.mark.parametrize(
    ("source", "kind"),
    [("synthetic", "SyntheticTransactions"), ("openml:7", "OpenMLTransactions"), ("/data/*.csv", "FileTransactions")],
)
def test_the_settings_choose_the_source(tmp_path: Path, source: str, kind: str):
    assert type(source_of(Settings(source=source).spec(), tmp_path)).__name__ == kind


@pytest.mark.parametrize(
    ("source", "sensors", "schedules"),
    [
        ("synthetic", [], ["weekly_upkeep"]),
        ("openml", [], ["daily_load", "weekly_upkeep"]),
        ("https://127.0.0.1/a.csv", [], ["daily_load", "weekly_upkeep"]),
        ("/landing", ["new_files"], ["weekly_upkeep"]),
        ("delta:/tables/payments", ["new_versions"], ["weekly_upkeep"]),
        ("table:main.sales.payments", [], ["daily_load", "weekly_upkeep"]),
        ("stream:/landing", [], ["daily_load", "weekly_upkeep"]),
    ],
)
@pytest.mark.parametrize("automation", ["on", "off"])
def test_what_starts_by_itself_follows_source_and_switch(
    tmp_path: Path, source: str, sensors: list[str], schedules: list[str], automation: Literal["on", "off"]
):
    found = build_defs(Settings(home=tmp_path, source=source, automation=automation)).get_repository_def()

    assert {sensor.name for sensor in found.sensor_defs} == {
        "tables_follow",
        "training_follows",
        "reconcile_champion",
        "run_failed",
        *sensors,
    }
    assert sorted(schedule.name for schedule in found.schedule_defs) == [*schedules, "weekly_verify"]
    running = {sensor.default_status is dg.DefaultSensorStatus.RUNNING for sensor in found.sensor_defs}
    running |= {schedule.default_status is dg.DefaultScheduleStatus.RUNNING for schedule in found.schedule_defs}
    assert running == {automation == "on"}


LATE = """
name: cards
version: 1
event_time: at
target: fraud
key: id
labels: {key: id, label: is_fraud, known_at: known_at}
features: [amount]
columns:
  - {name: id, type: long}
  - {name: at, type: timestamp}
  - {name: amount, type: double}
  - {name: fraud, type: long, nullable: true}
"""


def deps_of(spec: dg.AssetSpec) -> list[str]:
    return sorted(dep.asset_key.to_user_string() for dep in spec.deps)


def test_with_a_place_for_labels_they_are_an_asset_before_the_transactions(tmp_path: Path):
    contract = tmp_path / "cards.yaml"
    contract.write_text(LATE)
    settings = Settings(home=tmp_path, source="/landing", contract=str(contract), labels="/labels")
    late, plain = build_defs(settings), build_defs(settings.model_copy(update={"labels": None}))

    specs = {spec.key.to_user_string(): spec for spec in late.resolve_all_asset_specs()}
    assert deps_of(specs["raw_transactions"]) == ["transaction_labels", "transaction_source"]
    assert deps_of(specs["transaction_labels"]) == ["label_source"]
    labels = specs["transaction_labels"]
    assert (labels.tags[STAGE_TAG], sorted(labels.kinds), bool(labels.owners)) == (
        "ingest",
        ["deltalake", "spark"],
        True,
    )
    assert labels.freshness_policy is not None
    columns = {column.name: column.type for column in labels.metadata["dagster/column_schema"].columns}
    assert [columns[name] for name in ("id", "_label", "_known_at", "reasons")] == [
        "bigint",
        "bigint",
        "timestamp",
        "array<string>",
    ]
    raw = [column.name for column in specs["raw_transactions"].metadata["dagster/column_schema"].columns]
    assert raw[-3:] == ["_label_known_at", "_own_label", "_label_history"]
    train = [column.name for column in specs["train_set"].metadata["dagster/column_schema"].columns]
    assert train[-1] == "_label_known_at", "a set says nothing of what was not known yet"
    found, without = late.get_repository_def(), plain.get_repository_def()
    assert found.has_sensor_def("new_labels")
    assert found.has_job("merge_labels")
    assert not without.has_sensor_def("new_labels")
    assert not without.has_job("merge_labels")
    assert "transaction_labels" not in {spec.key.to_user_string() for spec in plain.resolve_all_asset_specs()}
    on_the_web = build_defs(settings.model_copy(update={"labels": "https://127.0.0.1/labels.csv"}))
    assert not on_the_web.get_repository_def().has_sensor_def("new_labels")


def test_generated_reports_are_labels_too_and_nothing_watches_for_them(tmp_path: Path):
    found = build_defs(Settings(home=tmp_path, source="cards", contract="cards", automation="on"))

    specs = {spec.key.to_user_string(): spec for spec in found.resolve_all_asset_specs()}
    assert deps_of(specs["raw_transactions"]) == ["transaction_labels", "transaction_source"]
    assert deps_of(specs["transaction_labels"]) == ["transaction_source"], "the same generator"
    repository = found.get_repository_def()
    assert repository.has_job("merge_labels")
    always = {"tables_follow", "training_follows", "reconcile_champion", "run_failed"}
    assert {sensor.name for sensor in repository.sensor_defs} == always
    assert {schedule.name for schedule in repository.schedule_defs} == {"weekly_upkeep", "weekly_verify"}


def test_labels_that_the_contract_does_not_tell_of_are_refused(tmp_path: Path):
    with pytest.raises(ContractError, match=r"the contract has no `labels` .*MLOPS_LABELS"):
        build_defs(Settings(home=tmp_path, labels="/labels"))


def test_the_place_of_labels_travels_to_the_cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLOPS_DATABRICKS_HOST", "https://127.0.0.1")
    contract = tmp_path / "cards.yaml"
    contract.write_text(LATE)
    here = Settings(home=tmp_path, target="databricks", contract=str(contract), labels="/Volumes/a/b/c/labels")

    assert here.for_cluster()["MLOPS_LABELS"] == "/Volumes/a/b/c/labels"
    assert json.loads(here.for_cluster()["MLOPS_CONTRACT"])["labels"]["key"] == "id"


def test_every_asset_may_become_only_so_old_but_what_is_about_a_past_day(tmp_path: Path):
    specs = build_defs(Settings(home=tmp_path, source="/landing")).resolve_all_asset_specs()
    without = {spec.key.to_user_string() for spec in specs if spec.freshness_policy is None}
    of_days = {spec.key.to_user_string() for spec in specs if spec.partitions_def is not None}
    assert of_days == {"as_of_backtest", "daily_arrivals"}
    assert without == {*of_days, "transaction_source"}, "somebody else writes it"


@pytest.mark.parametrize(
    ("source", "bound"),
    [
        ("synthetic", False),
        ("openml", False),
        ("delta:/tables/payments", False),
        ("https://127.0.0.1/a.csv", False),
        ("/landing", True),
        ("memory://landing/*.csv", True),
    ],
)
def test_days_of_arrival_are_there_where_files_arrive(tmp_path: Path, source: str, *, bound: bool):
    found = build_defs(Settings(home=tmp_path, source=source))

    assert any(spec.key == dg.AssetKey("daily_arrivals") for spec in found.resolve_all_asset_specs()) == bound
    assert ("backfill_arrivals" in {job.name for job in found.jobs or []}) == bound
