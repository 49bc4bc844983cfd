"""Scores of a booster through XGBoost's C API, with buffers that are reused.

What belongs here: the call, exact contributions (TreeSHAP), the value bands between a model's split points. What does
not: names and types of features (`features`), what follows from a score (`policy`).

`Booster.inplace_predict` takes about 150 us for one row, most of it to look at its arguments again. The library's own
function is called here instead, with one array interface per scorer: the same code computes the same bits.
"""

from __future__ import annotations

import ctypes
import json
from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import xgboost as xgb
from xgboost.core import _LIB

from mlops_assets.errors import TrackingError

Matrix = npt.NDArray[np.float32]
Scores = npt.NDArray[np.float32]
_CONFIG: Final = json.dumps(
    {
        "type": 0,
        "training": False,
        "iteration_begin": 0,
        "iteration_end": 0,
        "missing": float("nan"),
        "strict_shape": False,
        "cache_id": 0,
    }
).encode()


class RowScorer:
    """Scores rows with one thread. Not for two threads at once: each needs a scorer of its own.

    Args:
        booster: The model; its `nthread` is set to 1, which changes no score.
        configured: Whether that was done before: a booster must not be changed while another thread scores with it.

    Attributes:
        features: Names of the features, in the order of a row.
        booster: The model.
    """

    def __init__(self, booster: xgb.Booster, *, configured: bool = False) -> None:
        if not configured:
            booster.set_param({"nthread": 1})
        self.features: tuple[str, ...] = tuple(booster.feature_names or ())
        self.booster = booster
        self._handle = booster.handle
        self._row = np.zeros((1, len(self.features)), dtype=np.float32)
        self._interface = _interface(self._row)
        self._shape = ctypes.POINTER(ctypes.c_uint64)()
        self._dimensions = ctypes.c_uint64()
        self._result = ctypes.POINTER(ctypes.c_float)()
        self._out = (ctypes.byref(self._shape), ctypes.byref(self._dimensions), ctypes.byref(self._result))
        self._bands: dict[int, list[float]] | None = None
        self._explained: xgb.Booster | None = None  # a copy: `predict` is not safe beside scoring threads

    @property
    def row(self) -> Matrix:
        """The buffer that `score_row` reads, float32 [1, features]; NaN is a missing value."""
        return self._row

    def score_row(self) -> float:
        """Return the score of the row in the buffer: a float32 as a Python float."""
        self._predict(self._interface)
        return float(self._result[0])

    def score(self, X: Matrix) -> Scores:
        """Return the scores of rows, float32 [rows].

        Args:
            X: Feature values, float32 [rows, features]; NaN is a missing value.
        """
        if not len(X):
            return np.empty(0, dtype=np.float32)
        rows = np.ascontiguousarray(X, dtype=np.float32)
        self._predict(_interface(rows))
        return np.ctypeslib.as_array(self._result, shape=(len(rows),)).copy()

    def contributions(self, X: Matrix) -> npt.NDArray[np.float32]:
        """Return exact TreeSHAP contributions to the margin, float32 [rows, features + 1]; the last is the base."""
        if self._explained is None:
            self._explained = self.booster.copy()
        types = self.booster.feature_types
        rows = xgb.DMatrix(
            X,
            feature_names=list(self.features),
            feature_types=types,
            enable_categorical=bool(types and "c" in types),
            nthread=1,
        )
        found: npt.NDArray[np.float32] = self._explained.predict(rows, pred_contribs=True)
        return found

    def strongest(self, X: Matrix, most: int) -> list[list[tuple[int, float]]]:
        """Return the features that drove each row's score, by position, with their contributions, the strongest first.

        Args:
            X: Feature values, float32 [rows, features].
            most: How many of a row; features without a contribution are left out.
        """
        effects = self.contributions(X)[:, :-1]
        first = np.argsort(-np.abs(effects), axis=1, kind="stable")[:, :most]
        return [
            [(int(at), float(row[at])) for at in places if row[at] != 0]
            for row, places in zip(effects, first, strict=True)
        ]

    def band(self, feature: int, value: float) -> tuple[float | None, float | None]:
        """Return the two neighbouring split points of a feature around a value: between them no score changes.

        None stands for no bound. A value is told as its band, never as it is.

        Args:
            feature: Position of the feature.
            value: Its value; NaN has no band.
        """
        if self._bands is None:
            self._bands = _split_points(self.booster)
        points = self._bands.get(feature, [])
        if np.isnan(value):
            return None, None
        at = bisect_right(points, value)
        return points[at - 1] if at else None, points[at] if at < len(points) else None

    def _predict(self, interface: bytes) -> None:
        failed = _LIB.XGBoosterPredictFromDense(self._handle, interface, _CONFIG, None, *self._out)
        if failed:
            raise TrackingError(
                "XGBoost can't score the rows",
                where="the served model",
                fix="check that the version was trained with this version of XGBoost",
            )


def reference_scores(booster: xgb.Booster, X: Matrix) -> Scores:
    """Return scores by the path that training and MLflow take: a DMatrix and `Booster.predict`, float32 [rows].

    Args:
        booster: The model.
        X: Feature values, float32 [rows, features].
    """
    types = booster.feature_types
    rows = xgb.DMatrix(
        X, feature_names=booster.feature_names, feature_types=types, enable_categorical=bool(types and "c" in types)
    )
    scores: Scores = booster.predict(rows)
    return scores


def same_bits(left: Scores, right: Scores) -> bool:
    """Return whether two arrays of scores are equal bit for bit."""
    return left.shape == right.shape and bool(np.array_equal(left.view(np.uint32), right.view(np.uint32)))


def _interface(rows: Matrix) -> bytes:
    described = {"data": [rows.ctypes.data, True], "shape": list(rows.shape), "typestr": "<f4", "version": 3}
    return json.dumps(described).encode()


def _split_points(booster: xgb.Booster) -> dict[int, list[float]]:
    """Return the sorted split points of each numeric feature, by its position."""
    found: dict[int, set[float]] = {}
    document = json.loads(bytes(booster.save_raw("json")))
    gradient_booster = document["learner"]["gradient_booster"]
    trees: Sequence[dict[str, list[float]]] = gradient_booster.get("model", {}).get("trees", [])
    for tree in trees:
        nodes = zip(
            tree["left_children"], tree["split_indices"], tree["split_conditions"], tree["split_type"], strict=True
        )
        for child, feature, point, kind in nodes:
            if child != -1 and kind == 0:
                found.setdefault(int(feature), set()).add(float(np.float32(point)))
    return {feature: sorted(points) for feature, points in found.items()}
