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
from packaging.utils import canonicalize_name
from packaging.version import Version

import mlops_assets
from mlops_assets.databricks import libraries
from mlops_assets.databricks.libraries import (
    NEVER_INSTALLED,
    SAME_ON_BOTH_SIDES,
    cluster_libraries,
    cluster_pins,
    cluster_requirements,
    installed_version,
    known_versions,
    pinned_versions,
    read_lock,
    requirements_file,
)
from mlops_assets.databricks.runtimes import RUNTIMES, Runtime
from mlops_assets.errors import SettingsError

CHECKOUT = Path(mlops_assets.__file__).resolve().parents[1]


RUNTIME = pytest.mark.parametrize("runtime", RUNTIMES.values(), ids=RUNTIMES)


def ends_with(runtime: Runtime) -> dict[str, str]:
    """Return what a cluster has of our requirements and all that these need."""
    return {**runtime.packages, **cluster_pins(runtime)}


def test_the_lock_and_this_environment_agree():
    pins = pinned_versions("3.12")
    assert pins == {name: metadata.version(name) for name in cluster_requirements()}


@RUNTIME
def test_what_a_cluster_has_in_the_end_is_what_the_code_is_written_against(runtime: Runtime):
    added, locked = cluster_pins(runtime), known_versions(runtime.python)
    assert not NEVER_INSTALLED & set(added)
    assert "dagster-databricks" not in added, "nothing on a cluster imports it"
    for name, requirement in cluster_requirements().items():
        final = added.get(name, runtime.packages.get("xgboost" if name == "xgboost-cpu" else name))
        assert final is not None, name
        assert requirement.specifier.contains(final), name
        assert name not in SAME_ON_BOTH_SIDES or final == locked[name]
    assert {name: locked[name] for name in added} == added


@RUNTIME
def test_whatever_is_installed_has_what_it_needs(runtime: Runtime):
    """The metadata of this environment, which the lock made, is asked independently of how the list came about."""
    final, there = ends_with(runtime), {"python_version": runtime.python, "python_full_version": "3.12.3"}
    for name in cluster_pins(runtime):
        for line in metadata.requires(name) or []:
            needed = Requirement(line)
            wanted = canonicalize_name(needed.name)
            if wanted in NEVER_INSTALLED or (needed.marker and not needed.marker.evaluate({**there, "extra": ""})):
                continue
            assert needed.specifier.contains(final[wanted], prereleases=True), f"{name} needs {line}"


@RUNTIME
def test_what_an_image_is_built_against_stays(runtime: Runtime):
    """numpy, pandas and pydantic of every runtime lie in our ranges; the pyarrow of 17.3 does not."""
    kept = {"numpy", "pandas", "pydantic", "scipy", "matplotlib", "requests", "pyyaml", "databricks-sdk"}
    assert kept.isdisjoint(cluster_pins(runtime))
    assert ("pyarrow" in cluster_pins(runtime)) == runtime.key.startswith("17")


@RUNTIME
def test_what_no_runtime_has_is_installed_everywhere(runtime: Runtime):
    assert {"dagster", "hyperopt", "mlflow", "pydantic-settings", "toposort"} <= set(cluster_pins(runtime))


def test_a_package_is_replaced_once_something_that_is_installed_needs_more():
    eighteen = RUNTIMES["18"]
    assert "click" not in cluster_pins(eighteen)
    old = replace(eighteen, packages={**eighteen.packages, "click": "4.1"})
    assert cluster_pins(old)["click"] == known_versions("3.12")["click"], "dagster needs 5 or newer"
    assert "pandas" in cluster_pins(replace(eighteen, packages={**eighteen.packages, "pandas": "3.0.0"}))


def test_xgboost_of_an_ml_runtime_counts_once_it_is_the_locked_one():
    ml = RUNTIMES["18-ml"]
    assert cluster_pins(ml)["xgboost-cpu"] == "3.2.0"
    assert "xgboost-cpu" not in cluster_pins(replace(ml, packages={**ml.packages, "xgboost": "3.2.0"}))


@RUNTIME
def test_the_file_has_every_pin_with_the_hashes_of_the_lock(runtime: Runtime):
    text, lock = requirements_file(runtime), (CHECKOUT / "requirements.lock").read_text("utf-8")
    assert read_lock(text, runtime.python) == cluster_pins(runtime)
    entries = text.split("\n", 1)[1].replace(" \\\n", " ").splitlines()
    assert len(entries) == len(cluster_pins(runtime))
    assert all("--hash=sha256:" in entry for entry in entries), "pip refuses a file that has hashes for some"
    assert all(found in lock for entry in entries for found in entry.split() if found.startswith("--hash"))


@pytest.mark.proof  # asks the package index
@RUNTIME
def test_the_file_resolves_on_top_of_the_runtime(runtime: Runtime, tmp_path: Path):
    """Outside witness: uv, with what stays in the image as constraints, resolves without changing a pin."""
    added = cluster_pins(runtime)
    stays = {name: version for name, version in runtime.packages.items() if name not in added and name != "xgboost"}
    (tmp_path / "ours.txt").write_text(requirements_file(runtime))
    (tmp_path / "theirs.txt").write_text("".join(f"{name}~={version}\n" for name, version in stays.items()))
    where = ["--python-version", runtime.python, "--python-platform", "x86_64-manylinux_2_28"]
    command = ["pip", "compile", "--quiet", "--no-header", "--no-annotate", *where]
    done = subprocess.run(
        [CHECKOUT / ".venv/bin/uv", *command, "--constraint", tmp_path / "theirs.txt", tmp_path / "ours.txt"],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr
    resolved = read_lock(done.stdout, runtime.python)
    assert added.items() <= resolved.items()
    assert not {"pyspark", "delta-spark"} & set(resolved)
    assert set(resolved) - set(added) <= set(stays), "what is not in the file is in the runtime"


def test_where_staging_is_dbfs_the_direct_ones_are_a_list():
    found = cluster_libraries(RUNTIMES["18"])
    assert all(set(library) == {"pypi"} and set(library["pypi"]) == {"package"} for library in found)
    names = {library["pypi"]["package"].partition("==")[0] for library in found}
    assert names == set(cluster_pins(RUNTIMES["18"])) & set(cluster_requirements())


def test_versions_can_be_handed_in_and_none_may_be_missing():
    pins = dict.fromkeys(known_versions("3.12"), "9.9")
    assert set(cluster_pins(RUNTIMES["18"], pins).values()) == {"9.9"}
    del pins["hyperopt"]
    with pytest.raises(SettingsError, match="hyperopt: neither in requirements"):
        cluster_pins(RUNTIMES["18"], pins)


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


def test_requirements_are_those_of_pyproject():
    wanted = cluster_requirements()
    assert {"pyspark", "delta-spark", "dagster-webserver", "dagster-databricks", "pytest"}.isdisjoint(wanted)
    theirs = [Requirement(line) for line in metadata.requires("mlops_assets") or []]
    mine = {str(canonicalize_name(found.name)): found.specifier for found in theirs if found.marker is None}
    assert {name: found.specifier for name, found in wanted.items()} == {name: mine[name] for name in wanted}


def test_an_installed_package_without_a_checkout_says_the_same(tmp_path: Path):
    # As from a wheel: the package and its metadata, no pyproject.toml and no lock above it.
    package = tmp_path / "mlops_assets"
    shutil.copytree(Path(libraries.__file__).parent, package / "databricks")
    for module in ("errors.py", "foreign_text.py"):
        shutil.copy(CHECKOUT / "mlops_assets" / module, package)
    (package / "__init__.py").write_text("", "utf-8")
    code = (
        "import json, mlops_assets.databricks.libraries as l, mlops_assets.databricks.runtimes as r\n"
        f"assert l.__file__.startswith({str(tmp_path)!r}), l.__file__\n"
        "print(json.dumps({key: l.cluster_pins(made) for key, made in r.RUNTIMES.items()}))\n"
        "assert '--hash' not in l.requirements_file(r.RUNTIMES['18'])"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert answer.returncode == 0, answer.stderr
    assert json.loads(answer.stdout) == {key: cluster_pins(made) for key, made in RUNTIMES.items()}


def test_xgboost_may_be_either_distribution_and_what_is_absent_is_none():
    assert installed_version("xgboost-cpu") == "3.2.0"
    assert installed_version("no-such-distribution") is None
