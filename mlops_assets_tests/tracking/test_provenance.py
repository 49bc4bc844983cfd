"""Versions of packages: those of the modules, wherever they come from."""

from __future__ import annotations

from importlib.metadata import version

import delta
import pytest

from mlops_assets.tracking.provenance import Origin, package_versions


def test_versions_are_those_of_the_installed_distributions():
    versions = package_versions()
    for name in ("dagster", "delta-spark", "hyperopt", "mlflow", "numpy", "pandas", "pyspark", "xgboost-cpu"):
        assert versions[name] == version(name)


def test_a_module_without_a_version_is_the_runtimes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(delta, "__version__")
    assert package_versions("18.2")["delta-spark"] == "runtime 18.2"
    assert Origin("run", "url", "18.2").tags("d", 1)["package.delta-spark"] == "runtime 18.2"
    assert package_versions()["delta-spark"] == "runtime unknown"
