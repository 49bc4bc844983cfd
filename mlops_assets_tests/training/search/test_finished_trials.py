"""What an unfinished search left in MLflow comes back exactly, and nothing that was touched comes back at all."""

from __future__ import annotations

import json
import math
import uuid
from collections.abc import Iterable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.lineage import PARENT_TAG, SEARCH_KEY_TAG
from mlops_assets.settings import Settings
from mlops_assets.tracking.store import Store
from mlops_assets.training.records import FoldRecord, TrialRecord
from mlops_assets.training.search.resume import _digest, finished_trials, record_from_tags, record_tags
from mlops_assets.training.search.trial_writer import TrialWriter
from mlops_assets_tests.training.spaces import seed_point

KEY, OTHER_KEY = "0123456789abcdef", "fedcba9876543210"
FINITE = st.floats(allow_nan=False, allow_infinity=False)
POINTS = st.builds(
    seed_point,
    max_depth=st.integers(1, 30),
    n_estimators=st.integers(1, 100_000),
    learning_rate=FINITE,
    reg_alpha=FINITE,
    base_score=FINITE,
)
CURVES = st.lists(st.tuples(st.integers(1, 100_000), FINITE), max_size=400).map(tuple)
WITH_VALUE = st.builds(
    TrialRecord,
    number=st.integers(0, 10_000),
    point=POINTS,
    state=st.sampled_from(["finished", "pruned"]),
    value=FINITE,
    loss=FINITE,
    seconds=st.floats(0, 1e6),
    rounds=st.integers(0, 100_000),
    curve=CURVES,
    folds=st.lists(st.builds(FoldRecord, value=FINITE, rounds=st.integers(0, 100_000), curve=CURVES), max_size=4).map(
        tuple
    ),
)
ON_A_SAMPLE = st.builds(
    replace,
    WITH_VALUE,
    state=st.sampled_from(["screened", "pruned"]),
    share=st.floats(0, 1, exclude_min=True, exclude_max=True),
)
FAILED = st.builds(
    TrialRecord,
    number=st.integers(0, 10_000),
    point=POINTS,
    state=st.just("failed"),
    value=st.none(),
    loss=st.none(),
    seconds=st.floats(0, 1e6),
    error=st.text(max_size=2_000),
)


def trial(number: int, value: float | None = 0.5) -> TrialRecord:
    point = seed_point(3, 10 + number, 0.1 + 0.2, 1 / 3, 0.05)
    if value is None:
        return TrialRecord(number, point, "failed", None, None, seconds=0.1, error="ValueError: no")
    return TrialRecord(number, point, "finished", value, -value, seconds=math.pi, rounds=9, curve=((5, value / 3),))


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Store:
    settings = Settings(home=tmp_path_factory.mktemp("home"))
    made: Store = build_resources(settings)["tracking"].connect()
    return made


@pytest.fixture
def store(database: Store) -> Store:
    """An experiment of its own in one database, whose tables take seconds to make."""
    return replace(database, experiment_id=database.client.create_experiment(uuid.uuid4().hex))


def leave(store: Store, records: Iterable[TrialRecord], *, key: str = KEY, error: type[BaseException] | None) -> str:
    """Run a search that writes these trials and then ends well, or with an error; return its run."""
    run_id = ""
    try:
        with store.open_run("search", {SEARCH_KEY_TAG: key}) as run:
            run_id = run.run_id
            with TrialWriter(run, "kappa", key) as writer:
                for record in records:
                    writer.write(record)
            if error is not None:
                raise error
    except (ValueError, KeyboardInterrupt):
        pass
    return run_id


def without_origin(records: Iterable[TrialRecord]) -> list[tuple[int, float | None]]:
    return [(record.number, record.value) for record in records]


@given(st.one_of(WITH_VALUE, ON_A_SAMPLE, FAILED))
def test_a_record_comes_back_from_its_tags_exactly(record: TrialRecord):
    tags = record_tags(record, KEY)

    assert record_from_tags(tags, KEY) == record
    assert all(len(value.encode()) <= 4_000 for value in tags.values())


def test_a_record_that_an_earlier_version_wrote_comes_back():
    """The tags of a trial as they stand in homes that were made while points were dataclasses."""
    tags = {
        "mlops_assets.record_digest": "3acf69f36d3c3f03",
        "mlops_assets.record.0": '{"number":4,"point":{"max_depth":3,"n_estimators":14,"learning_rate":'
        '0.30000000000000004,"reg_alpha":0.3333333333333333,"base_score":0.05},"state":"pruned","value":0.5,'
        '"loss":-0.5,"seconds":1.5,"rounds":9,"curve":[[5,0.25]],"error":""}',
    }
    point = seed_point(3, 14, 0.1 + 0.2, 1 / 3, 0.05)
    record = TrialRecord(4, point, "pruned", 0.5, -0.5, seconds=1.5, rounds=9, curve=((5, 0.25),))

    assert record_from_tags(tags, KEY) == record
    assert record_tags(record, KEY) == tags


def test_a_curve_beyond_the_limits_of_tags_is_not_kept(caplog: pytest.LogCaptureFixture):
    curve = tuple((trees, 1 / trees) for trees in range(1, 20_000))

    assert record_tags(TrialRecord(0, trial(0).point, "finished", 0.5, -0.5, 1.0, curve=curve), KEY) == {}
    assert "is too long to be stored" in caplog.text


@given(st.dictionaries(st.sampled_from(sorted(record_tags(trial(0), KEY))), st.text(max_size=300)))
def test_whatever_stands_in_the_tags_is_refused_and_never_more(tags: dict[str, str]):
    with pytest.raises(ValueError, match="record"):
        record_from_tags(tags, KEY)


def sealed(**changes: object) -> dict[str, str]:
    """Return tags with the right digest of a wrong content, as another version of the platform may have left them."""
    content = json.loads(record_tags(trial(0), KEY)["mlops_assets.record.0"])
    content |= changes
    text = json.dumps(content, separators=(",", ":"))
    return {"mlops_assets.record.0": text, "mlops_assets.record_digest": _digest(text, KEY)}


def test_the_seal_of_the_bad_cases_is_right():
    assert record_from_tags(sealed(), KEY) == trial(0)


@pytest.mark.parametrize(
    "changes",
    [
        {"value": None},
        {"value": "0.5"},
        {"value": float("nan")},
        {"loss": float("inf")},
        {"state": "failed"},
        {"state": "great"},
        {"state": ["finished"]},
        {"number": -1},
        {"number": True},
        {"number": 1.0},
        {"rounds": None},
        {"point": {"max_depth": 3}},
        {"point": 5},
        {"point": ["max_depth", "n_estimators", "learning_rate", "reg_alpha", "base_score"]},
        {"curve": [[5]]},
        {"curve": 7},
        {"error": 3},
        {"folds": 7},
        {"folds": [{"value": 0.5, "rounds": 3}]},
        {"folds": [{"value": float("nan"), "rounds": 3, "curve": []}]},
        {"new_field": 1},
        {"share": 0.1},
        {"share": 1.0, "state": "screened"},
        {"share": 0, "state": "screened"},
        {"share": 2, "state": "screened"},
        {"share": "0.1", "state": "screened"},
    ],
    ids=str,
)
def test_a_record_of_another_form_is_refused(changes: dict[str, object]):
    with pytest.raises(ValueError, match="record"):
        record_from_tags(sealed(**changes), KEY)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt], ids=["failed", "killed"])
def test_trials_of_a_search_that_was_broken_off_come_back(store: Store, error: type[BaseException]):
    left = [trial(1), trial(0), trial(2, None)]
    parent = leave(store, left, error=error)

    found = finished_trials(store, KEY)

    children = store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{parent}'")
    by_name = {child.info.run_name: child.info.run_id for child in children}
    assert [record.number for record in found] == [0, 1, 2]
    for record, original in zip(found, sorted(left, key=lambda one: one.number), strict=True):
        assert record.resumed_from == by_name[f"trial {record.number:03d}"]
        assert record.point == original.point
        assert (record.value, record.loss, record.curve) == (original.value, original.loss, original.curve)
        assert (record.seconds, record.error) == (original.seconds, original.error)


def test_a_search_of_another_key_is_not_resumed(store: Store):
    leave(store, [trial(0)], key=OTHER_KEY, error=ValueError)

    assert finished_trials(store, KEY) == ()


def test_a_finished_search_is_history_with_all_before_it(store: Store):
    leave(store, [trial(0), trial(1)], error=ValueError)
    leave(store, [trial(0), trial(1), trial(2)], error=None)
    assert finished_trials(store, KEY) == ()

    leave(store, [trial(0, 0.9)], error=ValueError)
    assert without_origin(finished_trials(store, KEY)) == [(0, 0.9)]


def test_several_broken_off_searches_add_up_and_the_first_word_counts(store: Store):
    leave(store, [trial(0, 0.1), trial(1, 0.2)], error=ValueError)
    (first, second) = finished_trials(store, KEY)
    # The second run takes over what the first left, as the asset does, and goes on; both were trying trial 2.
    leave(store, [first, second, trial(2, 0.3), trial(3, 0.4)], error=KeyboardInterrupt)
    leave(store, [trial(2, 0.7), trial(5, 0.6)], error=ValueError)

    found = finished_trials(store, KEY)

    assert without_origin(found) == [(0, 0.1), (1, 0.2), (2, 0.3), (3, 0.4), (5, 0.6)]
    assert (found[0].resumed_from, found[1].resumed_from) == (first.resumed_from, second.resumed_from)


def test_a_search_whose_trials_all_failed_is_begun_anew(store: Store):
    """What made them fail may be a library that was missing; resuming them would fail for ever."""
    leave(store, [trial(0, None), trial(1, None)], error=ValueError)

    assert finished_trials(store, KEY) == ()


def test_children_that_somebody_edited_are_left_out_with_a_word(store: Store, caplog: pytest.LogCaptureFixture):
    parent = leave(store, [trial(number, 0.5) for number in range(4)], error=ValueError)
    children = store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{parent}'")
    by_name = {child.info.run_name: child for child in children}
    better = by_name["trial 000"].data.tags["mlops_assets.record.0"].replace('"value":0.5', '"value":0.999')
    store.client.set_tag(by_name["trial 000"].info.run_id, "mlops_assets.record.0", better)
    store.client.set_tag(by_name["trial 001"].info.run_id, "mlops_assets.record.0", "gASVDAAAAAAAAACMBnBpY2tsZZQu")
    store.client.delete_tag(by_name["trial 002"].info.run_id, "mlops_assets.record_digest")

    found = finished_trials(store, KEY)

    assert without_origin(found) == [(3, 0.5)]
    for name in ("trial 000", "trial 001", "trial 002"):
        assert f"{by_name[name].info.run_id} is not resumed" in caplog.text


def test_a_child_that_was_half_written_is_left_out(store: Store):
    parent = leave(store, [trial(0)], error=ValueError)
    store.client.create_run(store.experiment_id, tags={PARENT_TAG: parent, SEARCH_KEY_TAG: KEY})

    assert without_origin(finished_trials(store, KEY)) == [(0, 0.5)]


def test_a_deleted_child_is_not_resumed(store: Store):
    parent = leave(store, [trial(0), trial(1)], error=ValueError)
    children = store.client.search_runs([store.experiment_id], f"tags.`{PARENT_TAG}` = '{parent}'")
    store.client.delete_run(next(child.info.run_id for child in children if child.info.run_name == "trial 000"))

    assert without_origin(finished_trials(store, KEY)) == [(1, 0.5)]
