"""Scores through the C API are those of training, bit for bit; a version whose scores are not is never served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mlops_assets.errors import TrackingError
from mlops_assets.serving.bundle import DOCUMENT, MODEL_FILE, Golden, load_bundle
from mlops_assets.serving.scoring import RowScorer, reference_scores, same_bits
from mlops_assets_tests.serving.kit import booster, bundle, contract, rows

FEATURES = contract().features


def test_one_row_and_many_rows_get_the_bits_of_booster_predict():
    made, X = booster(), rows(500, 7)
    trained = reference_scores(made, X)
    scorer = RowScorer(made)

    one_by_one = []
    for row in X:
        scorer.row[0] = row
        one_by_one.append(scorer.score_row())

    assert same_bits(scorer.score(X), trained)
    assert same_bits(np.array(one_by_one, dtype=np.float32), trained)
    assert same_bits(RowScorer(made, configured=True).score(X[::2]), trained[::2])
    assert scorer.score(X[:0]).shape == (0,)


def test_one_bit_is_a_difference():
    left = np.array([0.25, 0.5], dtype=np.float32)
    right = left.copy()
    right[1] = np.nextafter(right[1], np.float32(1))

    assert same_bits(left, left.copy())
    assert not same_bits(left, right)
    assert not same_bits(left, left[:1])


def test_contributions_add_up_to_the_margin():
    made, X = booster(), rows(50, 3)
    scorer = RowScorer(made)

    margins = scorer.contributions(X).sum(axis=1)

    assert np.allclose(1 / (1 + np.exp(-margins)), scorer.score(X), atol=1e-6)


def test_between_two_split_points_no_score_changes():
    made, X = booster(), rows(1, 5)
    X[0, 0] = 60.3
    scorer = RowScorer(made)
    low, high = scorer.band(0, float(X[0, 0]))
    assert low is not None
    assert high is not None
    base = scorer.score(X)[0]

    for value in np.linspace(low, np.nextafter(np.float32(high), np.float32(0)), 50, dtype=np.float32):
        X[0, 0] = value
        assert scorer.score(X)[0] == base
    assert scorer.band(0, float("nan")) == (None, None)
    assert scorer.band(2, 1.0) == (None, None), "a category has no band"


def test_a_bundle_gives_back_what_was_written(tmp_path: Path):
    made = bundle(tmp_path, 4, threshold=0.125)

    version = load_bundle(tmp_path / "versions" / "4", FEATURES)

    X = rows(100, 11)
    assert same_bits(version.scorer.score(X), reference_scores(made, X))
    assert (version.number, version.policy.threshold, version.policy.version) == (4, 0.125, "v4-cost")
    assert version.codes == {2: {"app": 0.0, "shop": 1.0, "web": 2.0}}


@pytest.mark.parametrize("damage", ["other booster", "one byte", "cut", "golden", "no golden", "gone", "not json"])
def test_a_bundle_that_is_not_what_was_written_is_refused(tmp_path: Path, damage: str):
    bundle(tmp_path, 1)
    place = tmp_path / "versions" / "1"
    model, document = place / MODEL_FILE, json.loads((place / DOCUMENT).read_text())
    if damage == "other booster":
        model.write_bytes(bytes(booster(2).save_raw()))
    elif damage == "one byte":
        content = bytearray(model.read_bytes())
        content[len(content) // 2] ^= 1
        model.write_bytes(content)
    elif damage == "cut":
        model.write_bytes(model.read_bytes()[:-10])
    elif damage == "golden":
        golden = Golden.from_json_dict(document["golden"])
        golden.X[0] = 95, 19, 0, 0.99  # another customer
        document["golden"] = golden.to_json_dict()
    elif damage == "no golden":
        document["golden"] = {"rows": 0, "X": "", "scores": ""}
    elif damage == "gone":
        model.unlink()
    if damage in ("golden", "no golden"):
        (place / DOCUMENT).write_text(json.dumps(document))
    if damage == "not json":
        (place / DOCUMENT).write_text("{")

    with pytest.raises(TrackingError, match=r"the version is not served: .*Fix: "):
        load_bundle(place, FEATURES)


def test_a_model_of_another_contract_is_refused(tmp_path: Path):
    bundle(tmp_path, 1)

    with pytest.raises(TrackingError, match="features are not those of the contract"):
        load_bundle(tmp_path / "versions" / "1", ("count", "amount", "channel", "risk"))
