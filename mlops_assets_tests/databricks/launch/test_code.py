"""The archive that travels."""

from __future__ import annotations

import io
import os
import sys
import zipfile
from pathlib import Path

import pytest

from mlops_assets.databricks.launch.code import pack, root_of
from mlops_assets.errors import LaunchError

PACKAGE = "packed_package"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package with everything beside it and in it that must stay here; the path has "pytest" in it."""
    assert "pytest" in str(tmp_path)
    root = tmp_path / "checkout"
    files = {
        f"{PACKAGE}/__init__.py": "",
        f"{PACKAGE}/inner/__init__.py": "",
        f"{PACKAGE}/inner/deep/__init__.py": "",
        f"{PACKAGE}/inner/deep/module.py": "value = 1\n",
        f"{PACKAGE}/inner/other.py": "",
        f"{PACKAGE}/contracts/table.yaml": "columns: []\n",
        f"{PACKAGE}/py.typed": "",
        f"{PACKAGE}/__pycache__/module.cpython-311.pyc": "bytes",
        f"{PACKAGE}/__pycache__/stray.py": "",
        f"{PACKAGE}/.env": "TOKEN=1",
        f"{PACKAGE}/.git/config.txt": "",
        f"{PACKAGE}/data.csv": "1,2",
        f"{PACKAGE}/data.parquet": "1,2",
        f"{PACKAGE}/mlflow.db": "",
        f"{PACKAGE}/key.pem": "",
        ".venv/lib/site.py": "",
        ".git/hooks/hook.py": "",
        "mlruns/meta.yaml": "",
        "secrets.yaml": "",
        "outside.py": "secret = 1",
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, "utf-8")
    (root / PACKAGE / "linked.py").symlink_to(root / "outside.py")
    monkeypatch.syspath_prepend(str(root))
    for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
        monkeypatch.delitem(sys.modules, name)
    return root / PACKAGE


@pytest.mark.usefixtures("package")
def test_only_the_package_travels():
    assert pack([PACKAGE]).files == (
        f"{PACKAGE}/__init__.py",
        f"{PACKAGE}/contracts/table.yaml",
        f"{PACKAGE}/inner/__init__.py",
        f"{PACKAGE}/inner/deep/__init__.py",
        f"{PACKAGE}/inner/deep/module.py",
        f"{PACKAGE}/inner/other.py",
        f"{PACKAGE}/py.typed",
    )


@pytest.mark.usefixtures("package")
def test_package_within_a_package_comes_with_its_parents():
    assert pack([f"{PACKAGE}.inner.deep"]).files == (
        f"{PACKAGE}/__init__.py",
        f"{PACKAGE}/inner/__init__.py",
        f"{PACKAGE}/inner/deep/__init__.py",
        f"{PACKAGE}/inner/deep/module.py",
    )


def test_our_own_package_has_what_it_needs_and_no_caches():
    files = pack(["mlops_assets"]).files
    assert {"mlops_assets/definitions.py", "mlops_assets/data/contract/shipped/creditcard.yaml"} <= set(files)
    assert all(name.startswith("mlops_assets/") and "__pycache__" not in name for name in files)
    assert any(name.startswith("mlops_assets/databricks/profiles/") for name in files)


def test_same_content_is_the_same_bytes(package: Path):
    first = pack([PACKAGE])
    for path in package.rglob("*.py"):
        os.utime(path, (1, 2_000_000_000))
        path.chmod(0o600)
    second = pack([PACKAGE])
    assert (first.name, first.data) == (second.name, second.data)
    with zipfile.ZipFile(io.BytesIO(first.data)) as archive:
        assert archive.read(f"{PACKAGE}/inner/deep/module.py") == b"value = 1\n"


@pytest.mark.parametrize("change", ["content", "name"])
def test_other_content_has_another_name(package: Path, change: str):
    before = pack([PACKAGE]).name
    module = package / "inner" / "other.py"
    if change == "content":
        module.write_text("value = 2\n", "utf-8")
    else:
        module.rename(module.with_name("another.py"))
    assert pack([PACKAGE]).name != before


def test_credential_in_the_code_is_refused(package: Path):
    (package / "inner" / "other.py").write_text("token = 'dapi123'\n", "utf-8")
    with pytest.raises(LaunchError, match=r"a credential .*other\.py"):
        pack([PACKAGE], forbidden=[b"dapi123"])
    pack([PACKAGE], forbidden=[b"dapi456"])


@pytest.mark.parametrize("name", ["no_such_package", "json.decoder", "packed_package.nothing"])
@pytest.mark.usefixtures("package")
def test_what_is_no_package_is_refused(name: str):
    with pytest.raises(LaunchError, match=f"package {name} can.t be sent"):
        pack([name])


def test_data_in_disguise_is_refused(package: Path):
    (package / "data.json").write_bytes(b"0" * (51 * 2**20))
    with pytest.raises(LaunchError, match="larger than 50 MB"):
        pack([PACKAGE])


def test_root_is_where_the_package_is_imported_from(package: Path):
    assert root_of(PACKAGE) == root_of(f"{PACKAGE}.inner.deep") == package.parent
