"""Libraries of a cluster: ours, from the lock, less what the runtime has."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

import mlops_assets
from mlops_assets.databricks import libraries
from mlops_assets.databricks.libraries import (
    NEVER_INSTALLED,
    SAME_ON_BOTH_SIDES,
    cluster_libraries,
    cluster_requirements,
    installed_version,
    pinned_versions,
    read_lock,
)
from mlops_assets.databricks.runtimes import RUNTIMES, Runtime
from mlops_assets.errors import SettingsError

CHECKOUT = Path(mlops_assets.__file__).resolve().parents[1]


def listed(runtime: Runtime, installed: dict[str, str] | None = None) -> dict[str, str]:
    found = cluster_libraries(runtime, installed)
    assert all(set(library) == {"pypi"} and set(library["pypi"]) == {"package"} for library in found)
    return dict(library["pypi"]["package"].split("==") for library in found)


def test_the_lock_and_this_environment_agree():
    pins = pinned_versions("3.12")
    assert pins == {name: metadata.version(name) for name in cluster_requirements()}


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_what_a_cluster_has_in_the_end_is_what_the_code_is_written_against(runtime: Runtime):
    added = listed(runtime)
    assert not NEVER_INSTALLED & set(added)
    pins = pinned_versions(runtime.python)
    for name, requirement in cluster_requirements().items():
        shipped = runtime.packages.get("xgboost" if name == "xgboost-cpu" else name)
        final = added.get(name, shipped)
        assert final is not None, name
        assert requirement.specifier.contains(final), name
        assert name not in added or added[name] == pins[name]
        assert name not in SAME_ON_BOTH_SIDES or final == pins[name]


@pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)
def test_what_no_runtime_has_is_installed_everywhere(runtime: Runtime):
    assert {"dagster", "dagster-databricks", "hyperopt", "mlflow", "deltalake", "pydantic-settings"} <= set(
        listed(runtime)
    )


def test_what_a_runtime_has_in_the_range_is_not_installed():
    assert {"matplotlib", "pillow", "requests", "pyyaml"}.isdisjoint(listed(RUNTIMES["18"]))
    # 16.4 LTS has them too, and older than the range allows.
    assert {"matplotlib", "pillow", "filelock"} <= set(listed(RUNTIMES["16.4-lts"]))
    # dagster-databricks refuses the SDK of 18, and takes that of 17.3.
    assert "databricks-sdk" in listed(RUNTIMES["18"])
    assert "databricks-sdk" not in listed(RUNTIMES["17.3-lts"])


def test_xgboost_of_an_ml_runtime_counts_once_it_is_the_locked_one():
    ml = RUNTIMES["18-ml"]
    assert listed(ml)["xgboost-cpu"] == "3.2.0"
    assert "xgboost-cpu" not in listed(replace(ml, packages=dict(ml.packages) | {"xgboost": "3.2.0"}))


def test_the_same_version_or_ours_where_figures_depend_on_it():
    has = dict(RUNTIMES["18"].packages)
    pins = pinned_versions("3.12")
    same = replace(RUNTIMES["18"], packages=has | {"pandas": pins["pandas"]})
    near = replace(RUNTIMES["18"], packages=has | {"pandas": "2.2.0"})
    assert "pandas" not in listed(same)
    assert listed(near)["pandas"] == pins["pandas"]  # though 2.2.0 lies in the range


def test_versions_can_be_handed_in_and_none_may_be_missing():
    pins = dict.fromkeys(cluster_requirements(), "9.9")
    assert set(listed(RUNTIMES["18"], pins).values()) == {"9.9"}
    del pins["hyperopt"]
    with pytest.raises(SettingsError, match="hyperopt is neither in requirements"):
        cluster_libraries(RUNTIMES["18"], pins)


def test_a_lock_with_markers_hashes_and_comments():
    text = (
        "# made by a tool==1.0\n"
        "Numpy==2.0.0 ; python_version < '3.12' \\\n    --hash=sha256:aa==bb\n"
        "numpy==2.4.6 ; python_version >= '3.12' \\\n    --hash=sha256:cc \\\n    --hash=sha256:dd\n"
        "pywin32==312 ; sys_platform == 'win32'\n"
        "pydantic_settings[yaml]==2.16.3\n"
        "-e .\n"
    )
    assert read_lock(text, "3.12") == {"numpy": "2.4.6", "pydantic-settings": "2.16.3"}
    assert read_lock(text, "3.11")["numpy"] == "2.0.0"


def test_the_whole_lock_can_be_read():
    pins = read_lock((CHECKOUT / "requirements.lock").read_text("utf-8"), "3.12")
    assert len(pins) > 100
    assert all(Version(version) for version in pins.values())
    assert pins["pyspark"] == metadata.version("pyspark")


def test_requirements_are_those_of_pyproject_and_of_the_launcher():
    wanted = cluster_requirements()
    assert {"pyspark", "delta-spark", "dagster-webserver", "pytest"}.isdisjoint(wanted)
    assert str(wanted["dagster-databricks"].specifier) == f"=={metadata.version('dagster-databricks')}"
    theirs = [Requirement(line) for line in metadata.requires("dagster-databricks") or []]
    assert wanted["databricks-sdk"].specifier == next(r.specifier for r in theirs if r.name == "databricks-sdk")


def test_an_installed_package_without_a_checkout_says_the_same(tmp_path: Path):
    # As from a wheel: the package and its metadata, no pyproject.toml and no lock above it.
    package = tmp_path / "mlops_assets"
    shutil.copytree(Path(libraries.__file__).parent, package / "databricks")
    shutil.copy(CHECKOUT / "mlops_assets" / "errors.py", package)
    (package / "__init__.py").write_text("", "utf-8")
    code = (
        "import json, mlops_assets.databricks.libraries as l, mlops_assets.databricks.runtimes as r\n"
        f"assert l.__file__.startswith({str(tmp_path)!r}), l.__file__\n"
        "print(json.dumps({key: l.cluster_libraries(made) for key, made in r.RUNTIMES.items()}))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {key: cluster_libraries(made) for key, made in RUNTIMES.items()}


def test_xgboost_may_be_either_distribution_and_what_is_absent_is_none():
    assert installed_version("xgboost-cpu") == "3.2.0"
    assert installed_version("no-such-distribution") is None
