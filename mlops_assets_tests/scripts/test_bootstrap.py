"""The parts of `scripts/bootstrap.py` that decide; the whole of it runs in each `make` and in CI's fresh clone."""

from __future__ import annotations

import importlib.util
import io
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap", ROOT / "scripts" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[Path]:
    """A virtual environment without pip, as some tools make them."""
    folder = tmp_path / "env"
    venv.create(folder, with_pip=False, symlinks=True)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def test_environment_is_current_only_with_the_stamp_of_this_lock_python_and_place(
    bootstrap: ModuleType, environment: Path
):
    assert not bootstrap.is_current(environment)
    stamp = environment / ".mlops-stamp"
    text = bootstrap.stamp_text(environment)
    stamp.write_text(text, "utf-8")
    assert bootstrap.is_current(environment)
    for part in text.splitlines():
        stamp.write_text(text.replace(part, f"{part}0"), "utf-8")
        assert not bootstrap.is_current(environment), f"still current with another {part}"


def test_environment_whose_python_is_gone_is_not_current(bootstrap: ModuleType, environment: Path):
    (environment / ".mlops-stamp").write_text(bootstrap.stamp_text(environment), "utf-8")
    (environment / "bin" / "python").unlink()
    assert not bootstrap.is_current(environment)
    assert not bootstrap.has_this_python(environment)


def test_sound_environment_is_known_and_a_plain_python_is_not_taken_for_one(
    bootstrap: ModuleType, environment: Path, tmp_path: Path
):
    assert bootstrap.has_this_python(environment)
    (tmp_path / "prefix" / "bin").mkdir(parents=True)
    (tmp_path / "prefix" / "bin" / "python").symlink_to(Path(sys.base_prefix) / "bin" / "python3")
    assert not bootstrap.has_this_python(tmp_path / "prefix")


def test_environment_that_was_moved_is_known_as_such(bootstrap: ModuleType, environment: Path, tmp_path: Path):
    assert not bootstrap.was_moved(environment)  # made by another tool: no stamp, nothing to say
    (environment / ".mlops-stamp").write_text(bootstrap.stamp_text(environment), "utf-8")
    assert not bootstrap.was_moved(environment)
    assert bootstrap.was_moved(environment.rename(tmp_path / "elsewhere"))


def test_folder_of_somebody_else_is_never_emptied(bootstrap: ModuleType, tmp_path: Path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(bootstrap.SetupError, match="no virtual environment and not empty"):
        bootstrap.empty(tmp_path, keep=tmp_path / ".mlops-begun")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_environment_of_another_checkout_is_not_emptied_through_a_link(
    bootstrap: ModuleType, environment: Path, tmp_path: Path
):
    link = tmp_path / "link"
    link.symlink_to(environment)
    with pytest.raises(bootstrap.SetupError, match="is a link"):
        bootstrap.empty(link, keep=link / ".mlops-begun")
    assert (environment / "pyvenv.cfg").exists()
    assert not (environment / ".mlops-begun").exists()


def test_half_made_environment_is_emptied_and_stays_known_as_such(bootstrap: ModuleType, environment: Path):
    begun = environment / ".mlops-begun"
    bootstrap.empty(environment, keep=begun)
    assert list(environment.iterdir()) == [begun]
    (environment / "lib").mkdir()  # interrupted again, before there is a pyvenv.cfg
    bootstrap.empty(environment, keep=begun)
    assert list(environment.iterdir()) == [begun]


def test_home_is_marked_as_ours_only_if_it_was_empty(bootstrap: ModuleType, tmp_path: Path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").touch()
    for name in ("new", "mine"):
        bootstrap.prepare_home(tmp_path / name)
    assert "made by mlops_assets" in (tmp_path / "new" / ".gitignore").read_text("utf-8")
    assert not (tmp_path / "mine" / ".gitignore").exists()


def test_seeds_come_out_of_the_lock_with_their_hashes(bootstrap: ModuleType):
    found = {match["name"]: match[0] for match in bootstrap._REQUIREMENT.finditer(bootstrap.LOCK.read_text("utf-8"))}
    for seed in bootstrap.SEEDS:
        first, *hashes = found[seed].splitlines()
        assert re.fullmatch(rf"{seed}==[\d.]+ \\", first)
        assert hashes
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes)


def test_step_that_fails_says_where_the_rest_is_and_its_last_lines(bootstrap: ModuleType, tmp_path: Path):
    words = "import sys; print('\\n'.join(f'line {number}' for number in range(50))); sys.exit(3)"
    with (
        (tmp_path / "setup.log").open("w", encoding="utf-8") as log,
        pytest.raises(bootstrap.SetupError, match="line 49") as error,
    ):
        bootstrap.run([sys.executable, "-c", words], log)
    assert str(tmp_path / "setup.log") in str(error.value)
    assert "line 30" not in str(error.value)
    assert "line 30\n" in (tmp_path / "setup.log").read_text("utf-8")


def test_step_that_can_not_be_started_is_a_set_up_error(bootstrap: ModuleType, tmp_path: Path):
    with pytest.raises(bootstrap.SetupError, match="No such file"):
        bootstrap.run([str(tmp_path / "absent")], io.StringIO())


def test_index_of_pip_is_handed_to_uv_unless_uv_has_its_own(bootstrap: ModuleType, tmp_path: Path):
    (tmp_path / "pip.conf").write_text("[global]\nindex-url = file:///mirror/simple\n", "utf-8")
    ask = (
        "import importlib.util, pathlib, sys; s = importlib.util.spec_from_file_location('b', sys.argv[1]);"
        "b = importlib.util.module_from_spec(s); s.loader.exec_module(b);"
        "print(b.uv_environment(pathlib.Path(sys.executable)).get('UV_DEFAULT_INDEX'))"
    )

    def default_index(**variables: str) -> str:
        environment = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path), **variables}
        command = [sys.executable, "-B", "-c", ask, str(bootstrap.__file__)]
        answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
        return answer.stdout.strip()

    assert default_index() == "file:///mirror/simple"
    assert default_index(UV_DEFAULT_INDEX="file:///own/simple") == "file:///own/simple"
    assert default_index(UV_INDEX_URL="file:///own/simple") == "None"
