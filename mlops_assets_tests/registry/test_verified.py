"""Only what was registered is loaded: every change of a version's files is noticed before XGBoost sees a byte."""

from __future__ import annotations

import ast
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb

import mlops_assets
from mlops_assets.errors import TrackingError
from mlops_assets.lineage import FILES_SHA256_TAG
from mlops_assets.registry.verified import BrokenVersionError, UnnotedVersionError, load_verified, note_of, read_files
from mlops_assets.registry.versions import Version, register_once, score
from mlops_assets.tracking.connection import Address, connect
from mlops_assets.tracking.store import Store
from mlops_assets.training.matrix import Matrix

NAME = "fraud_verified"
FEATURES = ("amount", "hour")


def trained(seed: int = 1, rounds: int = 3) -> xgb.Booster:
    random = np.random.default_rng(seed)
    rows = random.normal(size=(60, 2)).astype(np.float32)
    labels = (rows[:, 0] > 0).astype(np.uint8)
    data = xgb.DMatrix(rows, labels, feature_names=list(FEATURES))
    return xgb.train({"objective": "binary:logistic", "max_depth": 2, "nthread": 1}, data, rounds)


def logged(store: Store, booster: xgb.Booster) -> tuple[str, str]:
    """Return the run and the model's URI."""
    example = pd.DataFrame({"amount": [1.5], "hour": np.array([3], dtype=np.int64)})
    with store.open_run("search", {}) as run:
        return run.run_id, run.log_model(booster, example, {})


def registered(store: Store, booster: xgb.Booster | None = None, name: str = NAME) -> Version:
    return register_once(store, name, *logged(store, booster or trained()))


def store_in(folder: Path) -> Store:
    """Return a store of its own in a folder, for all tests of a module."""
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    return connect(Address("own", uri, uri, str(folder / "artifacts")))


@pytest.fixture(scope="module")
def registered_once(tmp_path_factory: pytest.TempPathFactory) -> tuple[Store, Version]:
    store = store_in(tmp_path_factory.mktemp("registry"))
    return store, registered(store)


@pytest.fixture
def store(registered_once: tuple[Store, Version]) -> Store:
    return registered_once[0]


@pytest.fixture
def version(registered_once: tuple[Store, Version], tmp_path: Path) -> Iterator[Version]:
    """The one version; what a test does to its files and its note is undone."""
    store, version = registered_once
    folder, kept = folder_of(store, version), tmp_path / "kept"
    shutil.copytree(folder, kept)
    note = store.client.get_model_version(NAME, "1").tags[FILES_SHA256_TAG]
    yield version
    shutil.rmtree(folder, ignore_errors=True)
    for left in (folder.parent / "moved", folder.parent / "elsewhere.ubj"):
        shutil.rmtree(left, ignore_errors=True)
        left.unlink(missing_ok=True)
    shutil.copytree(kept, folder)
    store.client.set_model_version_tag(NAME, "1", FILES_SHA256_TAG, note)


def folder_of(store: Store, version: Version) -> Path:
    return Path(store.client.get_model_version_download_uri(version.name, str(version.number)).removeprefix("file://"))


def rows() -> Matrix:
    X = np.random.default_rng(5).normal(size=(40, 3)).astype(np.float32)
    features = ("hour", "more", "amount")  # in another order, and one more
    return Matrix(features, X, np.zeros(40, np.uint8), np.zeros(40, np.int64), None)


def test_what_was_registered_is_loaded_and_scores_as_for_a_caller(store: Store, version: Version):
    model = load_verified(store, NAME, 1)

    assert (model.number, model.sha256) == (1, version.sha256)
    assert dict(model.inputs) == {"amount": "double", "hour": "long"}
    given = rows()
    mine = score(model, given)
    direct = trained().predict(xgb.DMatrix(given.X[:, [2, 0]], feature_names=list(FEATURES)))
    assert np.array_equal(mine, direct)
    with store.selected():
        caller = mlflow.pyfunc.load_model(f"models:/{NAME}/1")
    whole = pd.DataFrame({"hour": np.arange(24), "amount": np.linspace(0, 9, 24)})
    by_hand = trained().predict(xgb.DMatrix(whole[list(FEATURES)].astype(np.float32)))
    assert np.array_equal(caller.predict(whole), by_hand)


def test_a_file_of_a_user_is_scored_as_pandas_reads_it(store: Store, version: Version, tmp_path: Path):
    file = tmp_path / "mine.csv"
    file.write_text("amount,hour\n1.25,3\n900,23\n")
    with store.selected():
        scores = mlflow.pyfunc.load_model(f"models:/{NAME}/{version.number}").predict(pd.read_csv(file))

    assert scores.shape == (2,)


def replace_booster(folder: Path) -> None:
    trained(seed=9).save_model(folder / "model.ubj")


def cut_booster(folder: Path) -> None:
    path = folder / "model.ubj"
    path.write_bytes(path.read_bytes()[:-40])


def flip_bit(folder: Path) -> None:
    path = folder / "model.ubj"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def name_a_loader(folder: Path) -> None:
    path = folder / "MLmodel"
    path.write_text(path.read_text().replace("loader_module: mlflow.xgboost", "loader_module: evil"))


def add_code(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "evil.py").write_text("raise SystemExit('ran')")


def add_our_code(folder: Path) -> None:
    (folder / "code").mkdir()
    (folder / "code" / "category_codes.py").write_text("raise SystemExit('ran')")


def add_pickle(folder: Path) -> None:
    (folder / "python_model.pkl").write_bytes(pickle.dumps({}))


def link_booster(folder: Path) -> None:
    path = folder / "model.ubj"
    path.rename(folder.parent / "elsewhere.ubj")
    path.symlink_to(folder.parent / "elsewhere.ubj")


def add_pipe(folder: Path) -> None:
    os.mkfifo(folder / "requirements.pipe")


def grow_description(folder: Path) -> None:
    with (folder / "MLmodel").open("a") as file:
        file.write("#" * (1 << 22))


def change_requirements(folder: Path) -> None:
    (folder / "requirements.txt").write_text("evil\n")


def remove_requirements(folder: Path) -> None:
    (folder / "requirements.txt").unlink()


def remove_booster(folder: Path) -> None:
    (folder / "model.ubj").unlink()


def remove_all(folder: Path) -> None:
    folder.rename(folder.parent / "moved")


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (replace_booster, r"model\.ubj differ from what was registered"),
        (cut_booster, r"model\.ubj differ"),
        (flip_bit, r"model\.ubj differ"),
        (name_a_loader, "MLmodel differ"),
        (add_code, r"it holds code/evil\.py"),
        (add_our_code, r"code/category_codes\.py differ"),
        (add_pickle, r"it holds python_model\.pkl"),
        (link_booster, r"model\.ubj is not a plain file"),
        (add_pipe, r"requirements\.pipe is not a plain file"),
        (grow_description, r"MLmodel has [\d,]+ bytes, more than"),
        (change_requirements, r"requirements\.txt differ"),
        (remove_requirements, r"requirements\.txt differ"),
        (remove_booster, r"model\.ubj is missing"),
        (remove_all, r"MLmodel, model\.ubj is missing"),
    ],
)
def test_a_changed_version_is_broken(store: Store, version: Version, damage: Callable[[Path], None], said: str):
    damage(folder_of(store, version))

    with pytest.raises(BrokenVersionError, match=said) as caught:
        load_verified(store, NAME, 1)
    assert caught.value.where == f"{NAME} version 1"
    assert not caught.value.transient


@pytest.mark.parametrize("damage", [name_a_loader, add_our_code, cut_booster])
def test_damage_that_was_there_before_the_digests_is_seen_too(
    store: Store, version: Version, damage: Callable[[Path], None]
):
    """Whoever registers such files by hand notes their digests as well."""
    damage(folder_of(store, version))
    note = note_of(read_files(store, f"models:/{NAME}/1", "x"))
    store.client.set_model_version_tag(NAME, "1", FILES_SHA256_TAG, note)

    with pytest.raises(BrokenVersionError, match=r"loader_module|XGBoost can't read model\.ubj"):
        load_verified(store, NAME, 1)


@pytest.mark.parametrize("note", ["", "{}", "[]", "not JSON", '{"model.ubj":1}', '"text"'])
def test_a_version_without_a_note_is_broken(store: Store, version: Version, note: str):
    store.client.set_model_version_tag(NAME, "1", FILES_SHA256_TAG, note)

    with pytest.raises(BrokenVersionError, match="does not say what its files must be"):
        load_verified(store, NAME, 1)


def test_a_version_of_an_earlier_release_can_t_be_verified(store: Store, version: Version):
    store.client.delete_model_version_tag(NAME, "1", FILES_SHA256_TAG)

    with pytest.raises(UnnotedVersionError, match="an earlier release registered it"):
        load_verified(store, NAME, version.number)


def test_another_model_than_the_trained_one_is_not_registered(store: Store):
    run_id, uri = logged(store, trained())
    place = store.client.get_logged_model(uri.removeprefix("models:/")).artifact_location
    replace_booster(Path(place.removeprefix("file://")))

    with pytest.raises(BrokenVersionError, match=r"model\.ubj is not the model that was trained"):
        register_once(store, "fraud_replaced", run_id, uri)
    assert store.client.search_model_versions("name = 'fraud_replaced'") == []


def test_the_same_booster_is_registered_once_and_another_one_again(store: Store, version: Version):
    assert registered(store) == version
    assert registered(store, trained(rounds=4)).number == 2
    assert registered(store).number == 1


def test_a_store_that_does_not_answer_is_not_a_broken_version(store: Store, version: Version):
    with pytest.raises(TrackingError) as caught:
        load_verified(store, NAME, 7)
    assert not isinstance(caught.value, BrokenVersionError)


def test_a_note_fits_into_a_tag_of_any_registry(store: Store, version: Version):
    noted = store.client.get_model_version(NAME, "1").tags[FILES_SHA256_TAG]

    assert len(noted) < 1_000, "Unity Catalog's limit for a tag's value"
    assert set(json.loads(noted)) >= {"MLmodel", "model.ubj", "requirements.txt"}


def loaders(text: str) -> list[str]:
    """Return the calls by which a module would have MLflow load a model, or read one by itself."""
    names = ("load_model", "load_pyfunc", "spark_udf", "_load_pyfunc")
    calls = [node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    found = [call.attr for call in calls if isinstance(call, ast.Attribute) and call.attr in names]
    return found + [call.id for call in calls if isinstance(call, ast.Name) and call.id in names]


def test_no_other_module_has_mlflow_load_a_model():
    package = Path(mlops_assets.__file__).parent
    # It goes with a model into a caller's process, and stands in for the loader that the caller has called.
    theirs = package / "tracking" / "category_codes.py"
    # XGBoost reads what `load_verified` let through, from bytes whose digest is compared again.
    served = package / "serving" / "bundle.py"
    found = {path.name: loaders(path.read_text()) for path in package.rglob("*.py") if path not in (theirs, served)}

    assert {name: calls for name, calls in found.items() if calls} == {}
    assert loaders(theirs.read_text()) == ["_load_pyfunc"], "the control"
    assert "mlflow" not in served.read_text()
