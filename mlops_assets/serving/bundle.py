"""A verified version as files that a server loads: the booster, its policy, and golden rows with their scores.

What belongs here: making, writing, reading and judging a bundle. What does not: fetching a version from the registry
(`from_registry`), scoring requests (`service`) or tables (`tables`).

The process that follows the registry writes bundles; workers read them. So a worker needs no MLflow, starts when the
registry is down, and never shares its time with a download. A bundle is a folder that is renamed into place once it is
complete; Spark's executors get the same bytes in memory. Nothing in it is unpickled: the booster is in XGBoost's own
format, the rest is JSON.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import xgboost as xgb

from mlops_assets.errors import TrackingError
from mlops_assets.serving.policy import Policy
from mlops_assets.serving.scoring import Matrix, RowScorer, Scores, reference_scores, same_bits

MODEL_FILE: Final = "model.ubj"
DOCUMENT: Final = "bundle.json"
_WARM_UP: Final = 50


@dataclass(frozen=True)
class Golden:
    """Rows whose scores are known: `X` float32 [rows, features], `scores` float32 [rows]."""

    X: Matrix
    scores: Scores

    def to_json_dict(self) -> dict[str, Any]:
        """Return the bits of both as text."""
        return {
            "rows": len(self.scores),
            "X": base64.b64encode(np.ascontiguousarray(self.X, dtype="<f4").tobytes()).decode(),
            "scores": base64.b64encode(np.ascontiguousarray(self.scores, dtype="<f4").tobytes()).decode(),
        }

    @classmethod
    def from_json_dict(cls, document: Mapping[str, Any]) -> Golden:
        """Read what `to_json_dict` wrote."""
        rows = int(document["rows"])
        X = np.frombuffer(base64.b64decode(document["X"]), dtype="<f4").reshape(rows, -1)
        return cls(X.astype(np.float32), np.frombuffer(base64.b64decode(document["scores"]), dtype="<f4").copy())


@dataclass(frozen=True)
class Bundle:
    """A version as bytes.

    Attributes:
        document: What `bundle.json` says, as JSON text.
        content: The booster, in XGBoost's own format.
    """

    document: str
    content: bytes


@dataclass(frozen=True)
class ServedVersion:
    """A version that has shown that it scores as it was trained.

    Attributes:
        model: Name of the registered model.
        number: Its version.
        run_id: The MLflow run that made it.
        created: When it was registered, seconds since 1970.
        policy: What follows from a score.
        scorer: The scorer of the thread that answers.
        levels: Levels of its categories, by feature.
        codes: The same as codes, by the feature's position.
        golden: Rows whose scores are known.
        sha256: Digest of the booster's file.
    """

    model: str
    number: int
    run_id: str
    created: float
    policy: Policy
    scorer: RowScorer
    levels: Mapping[str, Sequence[str]]
    codes: Mapping[int, Mapping[str, float]]
    golden: Golden
    sha256: str

    @property
    def label(self) -> str:
        """Name and number, for people."""
        return f"{self.model} version {self.number}"


def pack(
    booster: xgb.Booster,
    *,
    model: str,
    number: int,
    run_id: str,
    created: float,
    policy: Policy,
    golden: Golden,
    levels: Mapping[str, Sequence[str]],
) -> Bundle:
    """Return a version as bytes.

    Args:
        booster: The model, as the registry has it.
        model: Name of the registered model.
        number: Its version.
        run_id: The MLflow run that made it.
        created: When it was registered, seconds since 1970.
        policy: What follows from a score.
        golden: Rows whose scores are known.
        levels: Levels of its categories, by feature.
    """
    content = bytes(booster.save_raw())
    document = {
        "model": model,
        "number": number,
        "run_id": run_id,
        "created": created,
        "sha256": hashlib.sha256(content).hexdigest(),
        "policy": policy.to_json_dict(),
        "golden": golden.to_json_dict(),
        "levels": {name: list(known) for name, known in levels.items()},
    }
    return Bundle(json.dumps(document), content)


def write_bundle(folder: Path, bundle: Bundle) -> Path:
    """Write a version below a folder, and return its own; one that is there already stays.

    Args:
        folder: Folder of the model's versions.
        bundle: The version.
    """
    place = folder / str(json.loads(bundle.document)["number"])
    if (place / DOCUMENT).is_file():
        return place
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    (scratch / MODEL_FILE).write_bytes(bundle.content)
    (scratch / DOCUMENT).write_text(bundle.document, "utf-8")
    for name in (MODEL_FILE, DOCUMENT):
        with (scratch / name).open("rb") as file:
            os.fsync(file.fileno())
    try:
        scratch.rename(place)
    except OSError:  # another process was faster
        shutil.rmtree(scratch)
    return place


def load_bundle(place: Path, features: Sequence[str]) -> ServedVersion:
    """Load a version from its folder, as `unpack` does.

    Args:
        place: The version's folder.
        features: The contract's features, in order.

    Raises:
        TrackingError: The files are incomplete, or as in `unpack`.
    """
    where, fix = f"version {place.name} below {place.parent}", "delete the folder, so that the version is fetched again"
    try:
        bundle = Bundle((place / DOCUMENT).read_text("utf-8"), (place / MODEL_FILE).read_bytes())
    except (OSError, ValueError) as error:
        raise _unfit(f"it can't be read ({type(error).__name__})", where, fix) from None
    return unpack(bundle, features, where=where, fix=fix)


def unpack(bundle: Bundle, features: Sequence[str], *, where: str, fix: str) -> ServedVersion:
    """Let a version show that it scores as it was trained, and return it.

    Args:
        bundle: The version.
        features: The contract's features, in order.
        where: Where it is, for errors.
        fix: What to do first if it is unfit.

    Raises:
        TrackingError: The bytes were changed, the features are not the contract's, or a golden row gets other bits than
            it had.
    """
    try:
        document = json.loads(bundle.document)
        policy, golden = Policy.from_json_dict(document["policy"]), Golden.from_json_dict(document["golden"])
        if hashlib.sha256(bundle.content).hexdigest() != document["sha256"]:
            raise _unfit("the booster's file does not have its digest", where, fix)
        booster = xgb.Booster()
        booster.load_model(bytearray(bundle.content))
        scorer = RowScorer(booster)
        if list(scorer.features) != list(features):
            raise _unfit("its features are not those of the contract", where, fix)
        reached = scorer.score(golden.X)
        if not len(golden.scores) or not same_bits(reached, golden.scores):
            raise _unfit("golden rows do not get the scores that they had", where, fix)
        for row in golden.X[:_WARM_UP]:
            scorer.row[0] = row
            scorer.score_row()
        levels = {str(name): [str(level) for level in known] for name, known in document["levels"].items()}
        codes = {
            scorer.features.index(name): {level: float(at) for at, level in enumerate(known)}
            for name, known in levels.items()
        }
    except (KeyError, TypeError, ValueError, xgb.core.XGBoostError) as error:
        raise _unfit(f"it can't be read ({type(error).__name__})", where, fix) from None
    return ServedVersion(
        model=str(document["model"]),
        number=int(document["number"]),
        run_id=str(document["run_id"]),
        created=float(document["created"]),
        policy=policy,
        scorer=scorer,
        levels=levels,
        codes=codes,
        golden=golden,
        sha256=str(document["sha256"]),
    )


def golden_rows(booster: xgb.Booster, rows: Matrix) -> Golden:
    """Return rows with the scores that the booster gives them by the path of training.

    Args:
        booster: The model.
        rows: Feature values, float32 [rows, features].
    """
    return Golden(rows, reference_scores(booster, rows))


def _unfit(why: str, where: str, fix: str) -> TrackingError:
    return TrackingError(
        f"the version is not served: {why}", where=where, fix=f"{fix}; if that repeats, check the version in MLflow"
    )
