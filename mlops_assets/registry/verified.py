"""Load a registered version, or refuse it: the only place in which a stored model becomes a booster.

What belongs here: which files a version may have, their digests, and the booster that they hold. What does not: writing
models (`tracking/runs`), scoring tables (`versions`, `serving`), what follows from a broken version.

Whoever can write to the artifact store could put another model, or code, in a version's place. So the digests of a
version's files are noted where such a person can't write: in the registry, as a tag of the version, when it is
registered. A version is then loaded in this order: names and sizes are listed, the files are downloaded, their digests
compared with the tag, and the flavor read. Only bytes that passed reach XGBoost, whose reader ends the process on some
damaged files. No loader of MLflow's is called, because `MLmodel` names the code that those run.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import xgboost as xgb
import yaml
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

from mlops_assets.errors import TrackingError
from mlops_assets.lineage import FILES_SHA256_TAG
from mlops_assets.tracking.artifacts import odd_files
from mlops_assets.tracking.throttling import is_transient

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion
    from mlflow.store.artifact.artifact_repo import ArtifactRepository

    from mlops_assets.tracking.store import Store

BOOSTER_FILE: Final = "model.ubj"
DESCRIPTION_FILE: Final = "MLmodel"
_CODE_FILE: Final = "code/category_codes.py"
_ENVIRONMENT: Final = ("conda.yaml", "python_env.yaml", "requirements.txt")
_EXAMPLES: Final = ("input_example.json", "serving_input_example.json")
_ALLOWED: Final = frozenset({BOOSTER_FILE, DESCRIPTION_FILE, _CODE_FILE, *_ENVIRONMENT, *_EXAMPLES})
# MLflow's own clients write the first beside what they have downloaded, and copies of other files into the second on
# Databricks (`_copy_model_metadata_for_uc_sharing`, MLflow 3.17); neither is read.
_IGNORED: Final = frozenset({"registered_model_meta", "metadata"})
# A thousand deep trees take some 50 MB; the other files are a few kB.
_MAX_BOOSTER_BYTES: Final = 1 << 30
_MAX_OTHER_BYTES: Final = 1 << 22
_SHOWN: Final = 5
# What MLflow's flavors may say, and what each entry may be; None: anything, because nothing here follows it.
_XGBOOST: Final[Mapping[str, tuple[Any, ...] | None]] = {
    "code": (None, "code"),
    "data": (BOOSTER_FILE,),
    "model_class": ("xgboost.core.Booster",),
    "model_format": ("ubj",),
    "xgb_version": None,
}
_PYTHON: Final[Mapping[str, tuple[Any, ...] | None]] = {
    "code": (None, "code"),
    "data": (BOOSTER_FILE,),
    "env": None,
    "loader_module": ("mlflow.xgboost", "category_codes"),
    "python_version": None,
    "streamable": (None, False),
}


class BrokenVersionError(TrackingError):
    """A version whose files are not what was registered: it is never scored with, compared with or served."""


class UnnotedVersionError(BrokenVersionError):
    """A version that an earlier release registered, which noted no digests: nothing says what its files must be."""


@dataclass(frozen=True)
class VerifiedModel:
    """A version that was loaded and is what was registered.

    Attributes:
        name: Name of the registered model.
        number: The version.
        booster: The model.
        sha256: Digest of the booster's file; equal for equal boosters.
        inputs: MLflow's type of each input, by name, in the order of the signature.
        version: The registry's entry.
    """

    name: str
    number: int
    booster: xgb.Booster
    sha256: str
    inputs: Mapping[str, str]
    version: ModelVersion


def load_verified(store: Store, name: str, number: int) -> VerifiedModel:
    """Load a version, if it is what was registered.

    Args:
        store: The registry.
        name: Name of the registered model.
        number: The version.

    Raises:
        BrokenVersionError: A file is missing, was changed, added, or is too large; the version is of another flavor, or
            names code.
        UnnotedVersionError: Its digests were never noted.
        TrackingError: The registry or the artifact store can't be reached.
    """
    where = f"{name} version {number}"
    with store.answering():
        version = store.client.get_model_version(name, str(number))
    if FILES_SHA256_TAG not in version.tags:
        raise UnnotedVersionError(
            f"the version can't be verified: an earlier release registered it, without the tag {FILES_SHA256_TAG}",
            where=where,
            fix="let a new version replace it: remove its alias, or set `replace_after_days` of the gate",
        )
    noted = _noted(version.tags[FILES_SHA256_TAG], where)
    files = read_files(store, f"models:/{name}/{number}", where)
    found = digests(files)
    different = sorted({*noted, *found} - {path for path in found if noted.get(path) == found[path]})
    if different:
        raise _broken(f"{_listed(different)} differ from what was registered", where)
    inputs = _described(files, where)
    return VerifiedModel(name, number, _booster(files, where), found[BOOSTER_FILE], inputs, version)


def read_files(store: Store, uri: str, where: str) -> dict[str, bytes]:
    """Return the files of a model, each by its path, if there are no others than a model of ours has.

    Args:
        store: Where the model is.
        uri: `models:/<name>/<version>` or `models:/<id>`.
        where: The model, for messages.

    Raises:
        BrokenVersionError: A file is missing, too many, too large, or no plain file.
        TrackingError: The artifact store can't be reached.
    """
    with tempfile.TemporaryDirectory() as scratch:
        try:
            with store.selected():
                repository = get_artifact_repository(uri)
                _require_plain(repository, where)
                listed = _listing(repository, where)
                # Nothing but these: beside them may lie whatever somebody has put there.
                files = {path: Path(repository.download_artifacts(path, scratch)).read_bytes() for path in listed}
        except (MlflowException, OSError) as error:
            if not is_transient(error):
                raise _broken(f"its files can't be read: {str(error).splitlines()[0]}", where) from None
            raise TrackingError(
                f"the artifact store can't be reached: {str(error).splitlines()[0]}",
                where=where,
                fix="check the artifact store, then run again",
                transient=True,
            ) from None
    for path, content in files.items():  # a store may not say how large a file is
        _require_small(path, len(content), where)
    return files


def digests(files: Mapping[str, bytes]) -> dict[str, str]:
    """Return the SHA-256 of each file, by its path."""
    return {path: hashlib.sha256(content).hexdigest() for path, content in sorted(files.items())}


def note_of(files: Mapping[str, bytes]) -> str:
    """Return what a version's tag says of its files."""
    return json.dumps(digests(files), separators=(",", ":"))


def _noted(text: str, where: str) -> dict[str, str]:
    try:
        noted = json.loads(text)
    except ValueError:
        noted = None
    if not isinstance(noted, dict) or not noted or not all(isinstance(value, str) for value in noted.values()):
        raise _broken(f"its tag {FILES_SHA256_TAG} does not say what its files must be", where)
    return noted


def _listing(repository: ArtifactRepository, where: str) -> list[str]:
    """Return the paths of a model's files; folders other than the code's are not looked into."""
    found, extra, folders = [], [], [""]
    while folders:
        for entry in repository.list_artifacts(folders.pop() or None):
            if entry.is_dir and entry.path == "code":
                folders.append(entry.path)
            elif entry.path in _ALLOWED and not entry.is_dir:
                _require_small(entry.path, entry.file_size or 0, where)
                found.append(entry.path)
            elif entry.path not in _IGNORED:
                extra.append(entry.path)
    if extra:
        raise _broken(f"it holds {_listed(sorted(extra))}, which no model of this platform has", where)
    if missing := sorted({BOOSTER_FILE, DESCRIPTION_FILE} - set(found)):
        raise _broken(f"{_listed(missing)} is missing", where)
    return found


def _require_plain(repository: ArtifactRepository, where: str) -> None:
    """Refuse links, pipes and devices in a local folder: a copy would follow them."""
    below = getattr(repository, "repo", repository)
    if odd := odd_files(below.artifact_uri):
        raise _broken(f"{_listed(odd)} is not a plain file", where)


def _require_small(path: str, size: int, where: str) -> None:
    limit = _MAX_BOOSTER_BYTES if path == BOOSTER_FILE else _MAX_OTHER_BYTES
    if size > limit:
        raise _broken(f"{path} has {size:,} bytes, more than {limit:,}", where)


def _described(files: Mapping[str, bytes], where: str) -> dict[str, str]:
    """Return the inputs that `MLmodel` names; BrokenVersionError unless it describes a plain booster."""
    try:
        described = yaml.safe_load(files[DESCRIPTION_FILE])
        flavors = described["flavors"]
        inputs = {column["name"]: column["type"] for column in json.loads(described["signature"]["inputs"])}
        xgboost, python = flavors["xgboost"], flavors["python_function"]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, AttributeError):
        raise _broken(f"{DESCRIPTION_FILE} does not describe an XGBoost model with a signature", where) from None
    wrong = [f"flavor {name}" for name in flavors if name not in ("xgboost", "python_function")]
    for given, allowed in ((xgboost, _XGBOOST), (python, _PYTHON)):
        for name, value in given.items():
            values = allowed.get(name, ())
            if values is not None and value not in values:
                wrong.append(f"{name}: {value!r}")
    if (python.get("loader_module") == "category_codes") != (_CODE_FILE in files):
        wrong.append(f"loader_module: {python.get('loader_module')!r}")
    if wrong:
        raise _broken(f"{DESCRIPTION_FILE} says {_listed(wrong)}, which no model of this platform does", where)
    return inputs


def _booster(files: Mapping[str, bytes], where: str) -> xgb.Booster:
    try:
        return xgb.Booster(model_file=bytearray(files[BOOSTER_FILE]))
    except xgb.core.XGBoostError as error:
        raise _broken(f"XGBoost can't read {BOOSTER_FILE}: {str(error).splitlines()[0]}", where) from None


def _listed(names: list[str]) -> str:
    more = len(names) - _SHOWN
    return ", ".join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _broken(what: str, where: str) -> BrokenVersionError:
    return BrokenVersionError(
        f"the version is broken: {what}",
        where=where,
        fix="restore its files from a backup, or run `mlops rollback` to an older version; `tuned_model` and "
        "`registered_model` make a new one",
    )
