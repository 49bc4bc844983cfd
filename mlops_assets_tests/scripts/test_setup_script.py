"""`scripts/setup.sh` in a small checkout: a real pip, a real uv and a local index that has little in it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from mlops_assets_tests.scripts.fakes import executable, fake_java

ROOT = Path(__file__).resolve().parents[2]
# What the set-up itself needs, taken from this environment: the installer, the build of the project, of pyspark.
NEEDED = ("uv", "hatchling", "editables", "packaging", "pathspec", "pluggy", "trove-classifiers", "setuptools")
PROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "mlops_assets"
version = "1"
"""


def wheel_of_installed(name: str, folder: Path) -> Path:
    """Pack an installed distribution into a wheel again; not compressed, since nothing is sent anywhere."""
    found = metadata.distribution(name)
    target = folder / f"{name.replace('-', '_')}-{found.version}-py3-none-any.whl"
    data = f"{name.replace('-', '_')}-{found.version}.data/scripts"
    record = next(path for path in found.files or () if path.name == "RECORD")
    with zipfile.ZipFile(target, "w") as wheel:
        for path in found.files or ():
            if path.suffix == ".pyc" or path.name in ("RECORD", "INSTALLER", "REQUESTED", "direct_url.json"):
                continue
            inside = f"{data}/{path.name}" if path.parts[0] == ".." else path.as_posix()
            wheel.write(path.locate(), inside)
        wheel.writestr(record.as_posix(), "".join(f"{entry.filename},,\n" for entry in wheel.infolist()))
    return target


def own_wheel(folder: Path, version: str) -> Path:
    """Write a wheel of a package `tiny` that has one module."""
    target = folder / f"tiny-{version}-py3-none-any.whl"
    content = {
        "tiny.py": f"version = '{version}'\n",
        f"tiny-{version}.dist-info/METADATA": f"Metadata-Version: 2.1\nName: tiny\nVersion: {version}\n",
        f"tiny-{version}.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    with zipfile.ZipFile(target, "w") as wheel:
        for name, text in content.items():
            wheel.writestr(name, text)
        lines = [f"{name},sha256={digest(text.encode())},{len(text)}\n" for name, text in content.items()]
        wheel.writestr(f"tiny-{version}.dist-info/RECORD", "".join(lines))
    return target


def digest(content: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def locked(wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    with wheel.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return f"{name.replace('_', '-')}=={version} \\\n    --hash=sha256:{sha256}\n"


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels of a local index, laid out as pip and uv read it; by name, and `index` its folder."""
    folder = tmp_path_factory.mktemp("index")
    made = {"index": folder}
    for name in NEEDED:
        (folder / name).mkdir()
        made[name] = wheel_of_installed(name, folder / name)
    (folder / "tiny").mkdir()
    made["tiny"], made["tiny 2"] = own_wheel(folder / "tiny", "1.0"), own_wheel(folder / "tiny", "2.0")
    for project in folder.iterdir():
        links = "".join(f'<a href="{wheel.name}">{wheel.name}</a>' for wheel in project.glob("*.whl"))
        (project / "index.html").write_text(f"<!DOCTYPE html><html><body>{links}</body></html>", "utf-8")
    return made


def write_lock(checkout: Path, index: dict[str, Path], *names: str) -> None:
    (checkout / "requirements.lock").write_text("".join(locked(index[name]) for name in (*NEEDED, *names)), "utf-8")


@pytest.fixture
def bare_checkout(tmp_path: Path) -> Iterator[Path]:
    """The scripts and a project in a folder of its own, for a set-up that ends before it installs anything."""
    folder = tmp_path / "a checkout"
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    resources = folder / "mlops_assets" / "resources"
    resources.mkdir(parents=True)
    for module in (resources.parent / "__init__.py", resources / "__init__.py"):
        module.touch()
    (resources / "prepare_spark.py").write_text("import sys, tiny; print(*sys.argv[1:], tiny.version)\n", "utf-8")
    (folder / "pyproject.toml").write_text(PROJECT, "utf-8")
    (folder / "requirements.lock").touch()
    fake_java(tmp_path / "bin" / "java", "17.0.15")
    executable(tmp_path / "bin" / "python3.13", f'exec "{sys.executable}" "$@"')
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def checkout(bare_checkout: Path, index: dict[str, Path]) -> Path:
    """A checkout with a lock; the index is one that pip's settings name."""
    write_lock(bare_checkout, index, "tiny")
    settings = bare_checkout.parent / "pip.conf"
    settings.write_text(f"[global]\nindex-url = {index['index'].as_uri()}\n", "utf-8")
    return bare_checkout


def started(checkout: Path, **variables: str) -> subprocess.Popen[str]:
    environment = {
        "PATH": f"{checkout.parent / 'bin'}:{os.defpath}",
        "HOME": str(checkout.parent),
        "PIP_CONFIG_FILE": str(checkout.parent / "pip.conf"),
        "UV_CACHE_DIR": str(checkout.parent / "uv-cache"),
        "PYTHONDONTWRITEBYTECODE": "1",
        **variables,
    }
    return subprocess.Popen(
        ["/bin/sh", "scripts/setup.sh"],
        cwd=checkout,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def set_up(checkout: Path, **variables: str) -> tuple[int, str]:
    """Run the set-up to its end; return its exit code and all that it printed."""
    process = started(checkout, **variables)
    printed, _ = process.communicate(timeout=120)
    return process.returncode, printed


def installed(checkout: Path, venv: str = ".venv") -> dict[str, str]:
    code = "from importlib import metadata; print(*(f'{d.name}=={d.version}' for d in metadata.distributions()))"
    answer = subprocess.run(
        [checkout / venv / "bin" / "python", "-c", code], capture_output=True, text=True, check=True
    )
    return dict(found.split("==") for found in answer.stdout.split())


@pytest.mark.proof  # `make test` begins with the real set-up
def test_a_fresh_checkout_gets_what_is_locked_and_an_unchanged_one_costs_nothing(checkout: Path):
    code, printed = set_up(checkout)
    assert code == 0, printed
    assert printed.endswith(f"\n{checkout}/.mlops  1.0\n")  # with this project's code, at last
    assert {*NEEDED, "tiny", "mlops-assets"} <= {name.replace("_", "-") for name in installed(checkout)}
    assert "made by mlops_assets" in (checkout / ".mlops" / ".gitignore").read_text("utf-8")
    assert list(checkout.glob(".venv/lib/*/site-packages/__pycache__/tiny.*.pyc"))

    before, began = (checkout / ".venv" / ".mlops-stamp").stat(), time.monotonic()
    code, printed = set_up(checkout)
    assert (code, printed) == (0, f"{checkout}/.mlops  1.0\n")
    assert (checkout / ".venv" / ".mlops-stamp").stat().st_mtime_ns == before.st_mtime_ns
    assert time.monotonic() - began < 10  # some 0.3 s, on a machine that has nothing else to do


@pytest.mark.proof
def test_a_changed_lock_renews_what_has_changed_and_a_changed_project_its_metadata(
    checkout: Path, index: dict[str, Path]
):
    assert set_up(checkout)[0] == 0
    kept = (checkout / ".venv" / "pyvenv.cfg").stat().st_ino
    write_lock(checkout, index, "tiny 2")
    code, printed = set_up(checkout)
    assert code == 0, printed
    assert "bringing .venv up to date" in printed
    assert printed.endswith(" 2.0\n")

    (checkout / "pyproject.toml").write_text(PROJECT.replace('"1"', '"2"'), "utf-8")
    (checkout / "packages" / "other" / "other").mkdir(parents=True)
    (checkout / "packages" / "other" / "other" / "__init__.py").touch()
    (checkout / "packages" / "other" / "pyproject.toml").write_text(PROJECT.replace("mlops_assets", "other"), "utf-8")
    write_lock(checkout, index)
    (checkout / "mlops_assets" / "resources" / "prepare_spark.py").write_text("", "utf-8")
    code, printed = set_up(checkout)
    assert code == 0, printed
    found = {name.replace("_", "-"): version for name, version in installed(checkout).items()}
    assert (found["mlops-assets"], found["other"]) == ("2", "1")
    assert "tiny" not in found  # what the lock no longer has goes
    assert (checkout / ".venv" / "pyvenv.cfg").stat().st_ino == kept


@pytest.mark.proof
def test_a_package_that_is_not_the_locked_one_is_refused(checkout: Path, index: dict[str, Path]):
    lock = checkout / "requirements.lock"
    lock.write_text(lock.read_text("utf-8").replace(locked(index["tiny"])[-9:], "00000000\n"), "utf-8")
    code, printed = set_up(checkout)
    assert code == 1
    assert "Hash mismatch for `tiny==1.0`" in printed
    assert "set-up: uv could not install the locked packages" in printed

    lock.write_text(lock.read_text("utf-8").replace(locked(index["uv"])[-9:], "00000000\n"), "utf-8")
    code, printed = set_up(checkout)
    assert code == 1
    assert "DO NOT MATCH THE HASHES" in printed
    assert printed.splitlines()[-1] == "set-up: pip could not install uv"


@pytest.mark.proof
def test_an_interrupted_set_up_is_repaired_by_running_it_again(checkout: Path):
    process = started(checkout)
    site = checkout / ".venv" / "lib"
    until = time.monotonic() + 60
    while not list(site.glob("*/site-packages/uv")) and time.monotonic() < until:
        time.sleep(0.01)
    os.killpg(process.pid, 9)
    process.communicate()
    assert (checkout / ".venv" / ".mlops-stamp").read_text("utf-8") == "unfinished\n"
    (checkout / ".venv" / "half").mkdir()  # whatever was left
    (checkout / ".venv" / "pyvenv.cfg").unlink()

    code, printed = set_up(checkout)
    assert code == 0, printed
    assert "set-up: making .venv" in printed
    assert printed.endswith(" 1.0\n")
    assert not (checkout / ".venv" / "half").exists()


@pytest.mark.proof
def test_two_set_ups_at_once_are_one_after_the_other(checkout: Path):
    both = [started(checkout), started(checkout)]
    printed = [process.communicate(timeout=120)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], printed
    assert sorted("set-up: waiting for another one in this checkout" in text for text in printed) == [False, True]
    assert sorted("set-up: making .venv" in text for text in printed) == [False, True]
    assert all(text.endswith(" 1.0\n") for text in printed)


@pytest.mark.proof
def test_an_environment_that_was_moved_or_lost_its_python_is_made_anew(checkout: Path):
    assert set_up(checkout, VENV="my env")[0] == 0
    (checkout / "my env").rename(checkout / "moved")
    code, printed = set_up(checkout, VENV="moved")
    assert code == 0, printed
    assert "set-up: making moved" in printed
    (checkout / "moved" / "bin" / "python").unlink()
    code, printed = set_up(checkout, VENV="moved")
    assert code == 0, printed
    assert "set-up: making moved" in printed


def test_a_folder_of_somebody_else_is_never_emptied(bare_checkout: Path):
    (bare_checkout / "thesis").mkdir()
    (bare_checkout / "thesis" / "thesis.tex").touch()
    code, printed = set_up(bare_checkout, VENV="thesis")
    assert code == 1
    assert "set-up: thesis is no virtual environment and not empty; name another folder with VENV=" in printed
    assert [path.name for path in (bare_checkout / "thesis").iterdir()] == ["thesis.tex"]


def test_an_environment_of_another_checkout_is_not_emptied_through_a_link(bare_checkout: Path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", bare_checkout.parent / "theirs"], check=True)
    (bare_checkout / "link").symlink_to(bare_checkout.parent / "theirs")
    code, printed = set_up(bare_checkout, VENV="link")
    assert code == 1
    assert "set-up: link is a link" in printed
    assert (bare_checkout.parent / "theirs" / "pyvenv.cfg").exists()
    assert not (bare_checkout.parent / "theirs" / ".mlops-stamp").exists()


def test_a_home_is_marked_as_ours_only_if_it_was_empty(bare_checkout: Path):
    (bare_checkout / "mine").mkdir()
    (bare_checkout / "mine" / "photo.jpg").touch()
    (bare_checkout / "thesis").mkdir()
    (bare_checkout / "thesis" / "thesis.tex").touch()
    for home in ("new", "mine"):  # which comes before the refused environment
        assert set_up(bare_checkout, MLOPS_HOME=str(bare_checkout / home), VENV="thesis")[0] == 1
    assert "made by mlops_assets" in (bare_checkout / "new" / ".gitignore").read_text("utf-8")
    assert not (bare_checkout / "mine" / ".gitignore").exists()


@pytest.mark.proof
def test_the_index_of_pip_is_handed_to_uv_unless_uv_has_its_own(checkout: Path):
    """In all the other tests the packages come from the index that only pip's settings name."""
    for variable in ("UV_DEFAULT_INDEX", "UV_INDEX_URL"):
        code, printed = set_up(checkout, **{variable: (checkout / "absent").as_uri()})
        assert code == 1
        assert "not found in the package registry" in printed
        assert "set-up: uv could not install the locked packages" in printed
