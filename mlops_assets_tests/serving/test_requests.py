"""Requests and answers: what is accepted, what is refused and how little a refusal says, one answer for one event."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pandas as pd
import pytest
import xgboost as xgb
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlops_assets.cli.serve import curl_line
from mlops_assets.data.contract.contract import load_contract
from mlops_assets.errors import SettingsError
from mlops_assets.serving import service as service_module
from mlops_assets.serving.entities import EntityHash
from mlops_assets.serving.events import request_type
from mlops_assets.serving.features import FeatureReader
from mlops_assets.serving.scoring import reference_scores
from mlops_assets.serving.settings import read_serving
from mlops_assets_tests.conftest import CHECKOUT
from mlops_assets_tests.serving.kit import GOOD, LEVELS, Client, bundle, champion, contract, event, rows, with_app

NAMES = list(contract().features)


def expected(made: xgb.Booster, **features: Any) -> float:
    values = GOOD | features
    channel = values["channel"]
    code = LEVELS["channel"].index(channel) if channel in LEVELS["channel"] else np.nan
    risk = np.nan if values["risk"] is None else values["risk"]
    return float(reference_scores(made, np.array([[values["amount"], values["count"], code, risk]], np.float32))[0])


def test_an_event_gets_a_decision_with_its_origin_and_is_in_the_log(tmp_path: Path):
    made = bundle(tmp_path / "m", 1, threshold=0.0)
    champion(tmp_path)

    async def use(client: Client) -> None:
        reply = await client(
            "POST", "/v1/score", event() | {"reasons": 2, "features_as_of": "2026-11-01T11:00:00+00:00"}
        )
        answer = reply.json
        assert reply.status == 200
        assert answer["score"] == expected(made)
        assert (answer["decision"], answer["threshold"], answer["policy_version"]) == ("review", 0.0, "v1-cost")
        assert (answer["model"], answer["model_version"], answer["alias"]) == ("fraud_payments", 1, "champion")
        assert answer["features_as_of"] == "2026-11-01T11:00:00+00:00"
        assert len(answer["reasons"]) == 2
        low, high = next(item for item in answer["reasons"] if item["feature"] != "channel")["band"]
        assert low is not None or high is not None
        (row,) = client.logged()
        assert (row.request_id, row.event_id, row.score, row.arm) == (
            answer["request_id"],
            "e-1",
            answer["score"],
            "champion",
        )
        assert row.features == GOOD
        assert row.entity
        assert "c-1" not in row.entity
        assert row.latency_us > 0

    with_app(tmp_path, use)


def test_the_same_event_gets_the_same_answer_also_after_a_restart_and_another_one_is_a_conflict(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    bundle(tmp_path / "m", 2)
    champion(tmp_path)
    answers: list[bytes] = []

    async def first(client: Client) -> None:
        answers.append((await client("POST", "/v1/score", event())).body)
        answers.append((await client("POST", "/v1/score", json.dumps(event(), indent=3).encode())).body)
        assert len(client.logged()) == 1, "an answer that is given again is not logged again"
        assert (await client("GET", "/v1/decisions/e-1")).body == answers[0]
        assert (await client("GET", "/v1/decisions/e-2")).status == 404
        odd = "a/b %41 \u00fc"
        assert (await client("POST", "/v1/score", event(odd))).json["event_id"] == odd
        assert (await client("GET", f"/v1/decisions/{odd}")).json["event_id"] == odd
        assert (await client("POST", "/v1/score", event(amount=13))).status == 409

    async def second(client: Client) -> None:
        answers.append((await client("POST", "/v1/score", event())).body)

    with_app(tmp_path, first)
    champion(tmp_path, 2)
    with_app(tmp_path, second)

    assert len(set(answers)) == 1
    assert json.loads(answers[0])["model_version"] == 1


def test_an_answer_is_forgotten_after_its_time(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    champion(tmp_path)

    async def use(client: Client) -> None:
        one = (await client("POST", "/v1/score", event())).json
        await asyncio.sleep(0.05)
        two = (await client("POST", "/v1/score", event(amount=14))).json
        assert one["request_id"] != two["request_id"]

    with_app(tmp_path, use, {"remember_hours": str(0.04 / 3600)})


SENT = "4929123456781234"
BAD: list[tuple[dict[str, Any], list[tuple[str, str]]]] = [
    ({"amount": None}, [("features.amount", "null")]),
    ({"amount": SENT}, [("features.amount", "unreadable")]),
    ({"amount": True}, [("features.amount", "unreadable")]),
    ({"amount": -1.5}, [("features.amount", "out_of_range")]),
    ({"amount": 1e39}, [("features.amount", "infinite")]),
    ({"count": 2.5}, [("features.count", "unreadable")]),
    ({"count": 2**70}, [("features.count", "unreadable")]),
    ({"channel": 7}, [("features.channel", "unreadable")]),
    ({"risk": 1.01}, [("features.risk", "out_of_range")]),
    ({"risk": [1]}, [("features.risk", "unreadable")]),
    ({SENT: 1}, [("features.", "unknown")]),
    ({"amount": None, "risk": SENT}, [("features.amount", "null"), ("features.risk", "unreadable")]),
]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served")
    bundle(folder / "m", 1)
    champion(folder)
    return folder


def test_what_breaks_the_contract_is_refused_by_names(home: Path):
    async def use(client: Client) -> None:
        for features, wrong in BAD:
            reply = await client("POST", "/v1/score", event(**features))
            assert reply.status == 422, features
            assert [(item["name"], item["reason"]) for item in reply.json["fields"]] == wrong
            assert SENT not in reply.body.decode()
        missing = event()
        del missing["features"]["risk"]
        del missing["entity"]
        found = (await client("POST", "/v1/score", missing)).json["fields"]
        assert [(item["name"], item["reason"]) for item in found] == [
            ("entity", "missing"),
            ("features.risk", "missing"),
        ]
        refused = [row for row in client.logged() if row.arm == "refused"]
        assert len(refused) == len(BAD) + 1
        assert all(row.features is None and row.score is None and row.status == 422 for row in refused)
        assert SENT.encode() not in b"".join(path.read_bytes() for path in (home / "m" / "log").glob("*/*.seg"))

    with_app(home, use)


def test_what_the_contract_accepts_is_scored(home: Path):
    made = bundle(home / "m", 1)
    good: list[dict[str, Any]] = [
        {"risk": None}, {"channel": None}, {"channel": "never seen"}, {"amount": 0}, {"count": 0}, {"risk": 1},
        {"risk": 1 + 1e-10}, {"amount": 3e38},
    ]  # fmt: skip

    async def use(client: Client) -> None:
        for number, features in enumerate(good):
            reply = await client("POST", "/v1/score", event(f"good-{number}", **features))
            assert reply.status == 200, (features, reply.body)
            assert reply.json["score"] == expected(made, **features)

    with_app(home, use)


@pytest.mark.parametrize(
    ("method", "path", "body", "kind", "status"),
    [
        ("GET", "/", b"", "", 404),
        ("GET", "/v1/score", b"", "", 405),
        ("POST", "/v1/score", b"{", "application/json", 400),
        ("POST", "/v1/score", b"[]", "application/json", 422),
        ("POST", "/v1/score", b'{"a":NaN}', "application/json", 400),
        ("POST", "/v1/score", b"\xff\xfe", "application/json", 400),
        ("POST", "/v1/score", b"[" * 100_000, "application/json", 400),
        ("POST", "/v1/score", b"a,b\n1,2\n", "text/csv", 415),
        ("POST", "/v7/invocations", b"{}", "application/json", 404),
        ("POST", "/models/other/invocations", b"{}", "application/json", 404),
        ("POST", "/invocations", b"{}", "application/json", 400),
        ("POST", "/invocations", b'{"inputs":[],"instances":[]}', "application/json", 400),
        ("POST", "/invocations", b"{}", "application/xml", 415),
        ("POST", "/invocations", b"{}", "application/json; charset=latin-1", 415),
        ("POST", "/invocations", b'{"instances":[[1,2,3,4]]}', "application/json", 422),
        ("POST", "/invocations", b'{"dataframe_split":{"columns":["amount"],"data":[[1,2]]}}', "application/json", 422),
        ("POST", "/v2/models/payments/infer", b"{}", "application/json", 400),
        ("POST", "/v2/models/other/infer", b"{}", "application/json", 404),
        ("POST", "/v1/score/batch", b'{"events":3}', "application/json", 422),
    ],
)
def test_refusals_have_their_status_and_name_no_value(
    home: Path, method: str, path: str, body: bytes, kind: str, status: int
):
    async def use(client: Client) -> None:
        reply = await client(method, path, body, kind=kind)
        assert reply.status == status, reply.body
        assert "Traceback" not in reply.body.decode()
        assert set(reply.json) <= {"error", "fields", "rows", "bad_rows"}

    with_app(home, use)


def test_each_event_of_a_batch_has_its_own_status(home: Path):
    async def use(client: Client) -> None:
        events = [event("b-1"), event("b-2", amount=None), event("b-1", amount=3), event("b-3")]
        reply = await client("POST", "/v1/score/batch", {"events": events})
        assert [item["status"] for item in reply.json["results"]] == [200, 422, 409, 200]
        assert reply.json["results"][0]["answer"]["event_id"] == "b-1"
        assert reply.json["results"][1]["fields"] == [{"name": "features.amount", "reason": "null"}]

    with_app(home, use)


def test_mlflow_s_forms_and_v2_give_the_bits_of_training(home: Path):
    made, X = bundle(home / "m", 1), rows(300, 21)
    trained = [float(score) for score in reference_scores(made, X)]
    texts = [LEVELS["channel"][int(code)] for code in X[:, 2]]
    frame = pd.DataFrame(X.astype(np.float64), columns=NAMES).astype({"count": int}).assign(channel=texts)
    frame["risk"] = frame["risk"].astype(object).where(frame["risk"].notna(), None)
    records, split = frame.to_dict("records"), frame.to_dict("split")

    async def use(client: Client) -> None:
        for body in (
            {"dataframe_split": split},
            {"dataframe_records": records},
            {"instances": records},
            {"inputs": frame.to_dict("list")},
        ):
            reply = await client("POST", "/invocations", body)
            assert reply.json == {"predictions": trained}
            assert (reply.headers["x-model-version"], reply.headers["x-policy-version"]) == ("1", "v1-cost")
        csv = frame.to_csv(index=False).encode()
        for path in ("/latest/invocations", "/v1/invocations", "/models/payments/invocations"):
            assert (await client("POST", path, csv, kind="text/csv; charset=utf-8")).json == {"predictions": trained}
        kinds = {"amount": "FP64", "count": "INT64", "channel": "BYTES", "risk": "FP32"}
        tensors = [
            {"name": name, "shape": [300, 1], "datatype": kinds[name], "data": [[value] for value in frame[name]]}
            for name in NAMES
        ]
        reply = await client("POST", "/v2/models/payments/versions/1/infer", {"id": "mine", "inputs": tensors})
        assert reply.json["outputs"][0]["data"] == trained
        assert (reply.json["id"], reply.json["model_version"]) == ("mine", "1")
        assert (await client("GET", "/v2/models/payments")).json["inputs"][2]["datatype"] == "BYTES"
        assert (await client("GET", "/v2/models/payments/ready")).status == 200

    with_app(home, use)


def test_bad_rows_of_a_table_are_told_by_number(home: Path):
    frame = {"amount": [1, -1, "x"], "count": [1, 1, 1], "channel": ["web", 3, "web"], "risk": [0.5, None, 0.5]}

    async def use(client: Client) -> None:
        reply = await client("POST", "/invocations", {"inputs": frame})
        assert reply.status == 422
        assert {item["row"]: [found["name"] for found in item["fields"]] for item in reply.json["rows"]} == {
            1: ["amount", "channel"],
            2: ["amount"],
        }

    with_app(home, use)


def test_limits(home: Path):
    async def use(client: Client) -> None:
        many = {"inputs": {name: [GOOD[name]] * 3 for name in NAMES}}
        assert (await client("POST", "/invocations", many)).status == 413
        assert (await client("POST", "/v1/score/batch", {"events": [event()] * 3})).status == 413
        assert (await client("POST", "/v1/score", b"x" * 3_000)).status == 413
        few = {"inputs": {name: [GOOD[name]] * 2 for name in NAMES}}
        assert (await client("POST", "/invocations", few)).status == 200

    with_app(home, use, {"max_rows": "2", "max_bytes": "2048"})


def test_keys(home: Path):
    async def use(client: Client) -> None:
        for headers in ({}, {"authorization": "Bearer wrong-key-wrong-key"}, {"x_api_key": ""}):
            reply = await client("POST", "/v1/score", event("k-1"), **headers)
            assert reply.status == 401
        assert (await client("GET", "/metrics")).status == 401
        assert (await client("GET", "/health/ready")).status == 200
        for headers in (
            {"authorization": "bearer the-first-key-of-all"},  # pragma: allowlist secret
            {"x_api_key": "the-second-key-of-all"},  # pragma: allowlist secret
        ):
            assert (await client("POST", "/v1/score", event("k-1"), **headers)).status == 200

    with_app(home, use, {"token": "the-first-key-of-all,the-second-key-of-all"})  # pragma: allowlist secret


def test_the_rate(home: Path):
    async def use(client: Client) -> None:
        found = [(await client("POST", "/v1/score", event("r-1"))).status for _ in range(5)]
        assert found[:2] == [200, 200]
        assert found[3:] == [429, 429]

    with_app(home, use, {"rate": "2"})


def test_after_the_deadline_an_event_gets_the_fallback_by_name(home: Path, monkeypatch: pytest.MonkeyPatch):
    async def use(client: Client) -> None:
        answer = (await client("POST", "/v1/score", event("late"))).json
        assert (answer["decision"], answer["arm"], answer["score"]) == ("decline", "fallback", None)
        (row,) = [row for row in client.logged() if row.event_id == "late"]
        assert (row.arm, row.decision, row.score) == ("fallback", "decline", None)
        table = {"inputs": {name: [GOOD[name]] * 3 for name in NAMES}}
        assert (await client("POST", "/invocations", table)).status == 504
        # A scorer that takes longer than there is time does not hold up the answer.
        monkeypatch.setattr(service_module, "INLINE_ROWS", 2)
        monkeypatch.setattr(service_module.ModelService, "_apart", staticmethod(lambda version, X: time.sleep(0.5)))
        client.app.settings = client.app.settings.model_copy(update={"deadline_ms": 50})
        started = time.monotonic()
        assert (await client("POST", "/invocations", table)).status == 504
        assert time.monotonic() - started < 0.4

    with_app(home, use, {"deadline_ms": "0.000001", "fallback": "decline"})


@pytest.mark.parametrize("full", ["refuse", "count"])
def test_a_full_log_refuses_or_counts(tmp_path: Path, full: str):
    bundle(tmp_path / "m", 1)
    champion(tmp_path)

    async def use(client: Client) -> None:
        statuses = [(await client("POST", "/v1/score", event(f"e-{number}"))).status for number in range(200)]
        assert statuses[0] == 200
        lost = 200 - len(client.logged())
        assert lost > 0
        metrics = (await client("GET", "/metrics")).body.decode()
        if full == "refuse":
            assert statuses.count(503) == lost
            retried = await client("GET", f"/v1/decisions/e-{statuses.index(503)}")
            assert retried.status == 404, "an answer that did not go out is not kept"
        else:
            assert set(statuses) == {200}
            assert f'mlops_log_dropped_total{{model="payments"}} {float(lost)}' in metrics

    with_app(tmp_path, use, {"log_bytes": "65536", "log_full": full})


def test_a_canary_answers_for_its_share_of_the_entities_always_the_same_ones(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    bundle(tmp_path / "m", 2)
    champion(tmp_path, 1, challenger=2)
    arms: dict[str, set[str]] = {}

    async def use(client: Client) -> None:
        for number in range(200):
            card = f"c-{number % 100}"
            answer = (await client("POST", "/v1/score", event(f"e-{number}", card))).json
            assert (answer["arm"] == "canary") == (answer["model_version"] == 2) == (answer["alias"] == "challenger")
            arms.setdefault(card, set()).add(answer["arm"])

    with_app(tmp_path, use, {"canary": "challenger", "canary_share": "0.3"})

    assert all(len(found) == 1 for found in arms.values())
    assert 15 <= sum(found == {"canary"} for found in arms.values()) <= 45


def test_a_shadow_scores_the_same_events_under_the_same_ids_and_answers_nothing(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    second = bundle(tmp_path / "m", 2, threshold=0.0)
    champion(tmp_path, 1, challenger=2)

    async def use(client: Client) -> None:
        answer = (await client("POST", "/v1/score", event())).json
        assert answer["model_version"] == 1
        shadow_of_service = client.app.models["payments"].service.shadow
        assert shadow_of_service is not None
        shadow_of_service.close()
        (shadow,) = [row for row in client.logged() if row.arm == "shadow"]
        assert (shadow.request_id, shadow.event_id, shadow.version) == (answer["request_id"], "e-1", 2)
        assert (shadow.score, shadow.decision) == (expected(second), "review")

    with_app(tmp_path, use, {"shadow": "challenger"})


def test_an_entity_has_another_hash_in_another_period_and_all_can_be_found_to_delete_them():
    hashes, day = EntityHash(b"secret", 30), 86_400.0

    seen = {hashes("card", at * day) for at in range(120)}

    assert len(seen) == 4
    assert set(hashes.hashes_over("card", 0, 119 * day)) == seen
    assert hashes("other", 0) not in seen
    assert EntityHash(b"other", 30)("card", 0) not in seen
    assert hashes(None, 0) == ""
    assert EntityHash(b"secret", 0)("card", 0) == EntityHash(b"secret", 0)("card", 1e9)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.proof  # hundreds of generated payloads
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    features=st.dictionaries(st.sampled_from([*NAMES, "other"]), JSON_VALUES, max_size=5),
    more=st.dictionaries(
        st.sampled_from(["event_id", "entity", "event_time", "reasons", "x"]), JSON_VALUES, max_size=3
    ),
    path=st.sampled_from(["/v1/score", "/invocations", "/v1/score/batch", "/v2/models/payments/infer"]),
)
def test_no_payload_is_an_error_of_the_server(home: Path, features: Any, more: Any, path: str):
    bodies = [
        event(**features) | more,
        {"events": [event(**features) | more]},
        {"inputs": features} | more,
        {"dataframe_records": [features, GOOD]},
        {"inputs": [{"name": "amount", "shape": [1], "datatype": "FP32", "data": [features]}]} | more,
    ]

    async def use(client: Client) -> None:
        for body in bodies:
            assert (await client("POST", path, body)).status in (200, 400, 409, 413, 415, 422)

    with_app(home, use)


def test_the_request_of_the_readme_is_one_that_the_contract_of_the_demo_accepts():
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    (body,) = re.findall(r"/v1/score -H 'Content-Type: application/json' -d '(.*?)'\n", readme, re.DOTALL)
    cards = load_contract("cards")
    event_type = request_type(cards, FeatureReader(cards).struct)

    assert msgspec.structs.asdict(msgspec.json.decode(body, type=event_type))["event_id"] == "e-1"
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(body.replace('"distance":0.8', '"distance":-1'), type=event_type)


def test_the_line_to_try_is_a_request_that_the_contract_accepts():
    for known in (contract(), load_contract("cards"), load_contract("creditcard")):
        line = curl_line(known, read_serving({"MLOPS_SERVING_TOKEN": "a-key-that-is-long"}))
        arguments = shlex.split(line.removeprefix("try:  "))
        body = arguments[arguments.index("-d") + 1]

        assert msgspec.json.decode(body, type=request_type(known, FeatureReader(known).struct))
        assert "a-key-that-is-long" not in line


@pytest.mark.parametrize(
    ("name", "value"),
    [("HOST", "0.0.0.0"), ("TOKEN", "short"), ("POLL_SECONDS", "6"), ("FALLBACK", "maybe"), ("PROT", "1")],  # noqa: S104
)
def test_a_setting_that_is_not_one_is_named_without_its_value(name: str, value: str):
    with pytest.raises(SettingsError, match=r"MLOPS_SERVING_") as caught:
        read_serving({f"MLOPS_SERVING_{name}": value})

    assert value not in str(caught.value) or value in ("1", "6")
    assert read_serving({"MLOPS_SERVING_HOST": "0.0.0.0", "MLOPS_SERVING_TOKEN": "x" * 16}).host == "0.0.0.0"  # noqa: S104
    assert read_serving({"MLOPS_SERVING_PORT": "", "MLOPS_HOME": "x"}, port=7, workers=None).port == 7


def test_a_whole_number_with_a_decimal_point_is_a_whole_number(tmp_path: Path):
    """JSON does not tell 3.0 from 3, and pandas writes the first."""
    bundle(tmp_path / "m", 1)
    champion(tmp_path)

    async def use(client: Client) -> None:
        plain = await client("POST", "/v1/score", event("e-1", count=3))
        pointed = await client("POST", "/v1/score", event("e-2", count=3.0) | {"reasons": 2.0})
        fraction = await client("POST", "/v1/score", event("e-3", count=3.5))
        headed = await client("POST", "/invocations", b"a,b\n", kind="text/csv")

        assert (plain.status, pointed.status, fraction.status, headed.status) == (200, 200, 422, 422)
        assert plain.json["score"] == pointed.json["score"]
        assert fraction.json["fields"] == [{"name": "features.count", "reason": "unreadable"}]

    with_app(tmp_path, use)
