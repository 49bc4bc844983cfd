"""The server judged by others: schemathesis on its OpenAPI document, KServe's client, MLflow's own scoring server."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import numpy as np
import pytest
import requests
from mlflow.pyfunc import scoring_server
from starlette.testclient import TestClient

from mlops_assets_tests.environments import MakeEnvironment, maker
from mlops_assets_tests.serving.kit import GOOD
from mlops_assets_tests.serving.registry import Registry
from mlops_assets_tests.serving.served import Running, running

pytestmark = pytest.mark.proof  # starts servers, asks the package index
CASES = 300


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> MakeEnvironment:
    """Return a function that makes environments."""
    return maker(tmp_path_factory)


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    made = Registry(tmp_path_factory.mktemp("judged"))
    made.register(1)
    return made


@pytest.fixture(scope="module")
def server(registry: Registry) -> Iterator[Running]:
    with running(registry, environ={"port": "0", "log": "memory:"}) as made:
        yield made


@pytest.mark.parametrize(("paths", "unasked"), [
    ("/v1/", "ignored_auth"),  # on loopback no key is asked for
    # MLflow's forms: no schema says that a row must have the columns that the form names.
    ("invocations", "ignored_auth,positive_data_acceptance"),
])  # fmt: skip
def test_schemathesis_finds_no_error_of_the_server_and_no_difference_from_the_document(
    server: Running, judge: MakeEnvironment, tmp_path: Path, paths: str, unasked: str
):
    command = [
        str(judge("schemathesis>=4.32").with_name("schemathesis")), "run", f"{server.url}/openapi.json", "--no-color",
        "--max-examples", str(CASES), "--phases", "examples,coverage,fuzzing", "--include-path-regex", paths,
        "--checks", "all", "--exclude-checks", unasked,
    ]  # fmt: skip
    # In a folder of its own, since it leaves a report where it runs.
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=600)

    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-1000:]
    (generated,) = re.findall(r"(\d+) generated", done.stdout)
    assert int(generated) > CASES


ASK = """
import asyncio, json, sys
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def ask(url, model, rows):
    client = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
    ready = [await client.is_server_live(url), await client.is_server_ready(url)]
    ready.append(await client.is_model_ready(url, model))
    kinds = {"amount": "FP64", "count": "INT64", "channel": "BYTES", "risk": "FP64"}
    inputs = [InferInput(name, [len(rows)], kind, [row[name] for row in rows]) for name, kind in kinds.items()]
    request = InferRequest(model_name=model, infer_inputs=inputs, request_id="q-1")
    answer = await client.infer(url, request, model_name=model)
    output = answer.outputs[0]
    return {"ready": ready, "id": answer.id, "shape": output.shape, "scores": list(output.data)}

print(json.dumps(asyncio.run(ask(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))))
"""


def test_the_client_of_kserve_gets_ready_states_and_scores(server: Running, judge: MakeEnvironment, registry: Registry):
    asked = [GOOD, GOOD | {"amount": 80.0, "count": 9}]
    models = requests.get(f"{server.url}/version", timeout=30).json()
    title = registry.spec.title
    assert title in json.dumps(models)
    done = subprocess.run(
        [judge("kserve>=0.15"), "-c", ASK, server.url, title, json.dumps(asked)],
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    same = requests.post(f"{server.url}/invocations", json={"dataframe_records": asked}, timeout=30).json()
    assert answer["ready"] == [True, True, True]
    assert answer["id"] == "q-1"
    assert answer["shape"] in ([2], [2, 1])
    assert np.array_equal(np.float32(answer["scores"]), np.float32(same["predictions"]))


SPLIT = {"columns": list(GOOD), "data": [list(GOOD.values())]}
# What both answer: a body, and its type.
ACCEPTED: list[tuple[Any, str]] = [
    ({"dataframe_split": SPLIT}, "application/json"),
    ({"dataframe_split": SPLIT}, "application/json; charset=utf-8"),
    ({"dataframe_records": [GOOD, GOOD | {"amount": 99.5}]}, "application/json"),
    ({"dataframe_records": [GOOD | {"risk": None}]}, "application/json"),
    ({"inputs": {name: [value] for name, value in GOOD.items()}}, "application/json"),
    ({"instances": [GOOD]}, "application/json"),
    ("amount,count,channel,risk\n12.5,3,web,0.25\n99.5,4,app,\n", "text/csv"),
]
# What both refuse: not JSON, no form or two, rows of other lengths, other types of content, a column missing.
REFUSED: list[tuple[Any, str]] = [
    ("not json", "application/json"),
    ("[1, 2]", "application/json"),
    ({}, "application/json"),
    ({"dataframe_split": SPLIT, "instances": [GOOD]}, "application/json"),
    ({"dataframe_split": {"columns": list(GOOD), "data": [[1.0]]}}, "application/json"),
    ({"dataframe_records": [{"amount": 1.0}]}, "application/json"),
    ({"dataframe_records": [GOOD | {"amount": "much"}]}, "application/json"),
    ({"inputs": "x"}, "application/json"),
    ({"dataframe_records": [GOOD]}, "application/xml"),
    ({"dataframe_records": [GOOD]}, "application/json; charset=latin-1"),
]


def test_the_same_requests_get_the_answers_of_mlflow_s_own_scoring_server(server: Running, registry: Registry):
    with registry.source.store.answering():
        model = mlflow.pyfunc.load_model(f"models:/{registry.source.registered}/1")
    theirs = TestClient(scoring_server.init(model), raise_server_exceptions=False)

    def both(body: Any, kind: str) -> tuple[Any, Any]:
        content = body if isinstance(body, str) else json.dumps(body)
        headers = {"Content-Type": kind}
        url = f"{server.url}/invocations"
        return theirs.post("/invocations", content=content, headers=headers), requests.post(
            url, data=content, headers=headers, timeout=30
        )

    for body, kind in ACCEPTED:
        their, our = both(body, kind)
        assert (their.status_code, our.status_code) == (200, 200), (body, kind, their.text, our.text)
        assert np.array_equal(np.float32(our.json()["predictions"]), np.float32(their.json()["predictions"])), body
    for body, kind in REFUSED:
        their, our = both(body, kind)
        assert 400 <= their.status_code < 500, (body, kind, their.text[:300])
        assert 400 <= our.status_code < 500, (body, kind, our.text)
