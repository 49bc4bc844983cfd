"""Versions follow their aliases: loaded aside, verified, swapped as a whole; a broken one never replaces a good one."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from mlops_assets.serving.bundle import DOCUMENT, MODEL_FILE
from mlops_assets.serving.watching import ALIASES_FILE
from mlops_assets_tests.serving.kit import Client, booster, bundle, champion, event, with_app
from mlops_assets_tests.serving.test_requests import expected


async def looked(client: Client) -> None:
    await client.app.models["payments"].watcher.look()


def test_a_moved_alias_is_followed_and_the_version_before_is_kept(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    bundle(tmp_path / "m", 2)
    champion(tmp_path, 1)

    async def use(client: Client) -> None:
        async def version(number: int) -> int:
            return int((await client("POST", "/v1/score", event(f"e-{number}"))).json["model_version"])

        assert await version(1) == 1
        champion(tmp_path, 2)
        assert await version(2) == 1, "until it has looked"
        await looked(client)
        assert await version(3) == 2
        assert (await client("GET", "/version")).json["models"]["payments"]["previous"] == 1
        before = client.app.models["payments"].service.versions.previous
        champion(tmp_path, 1)
        await looked(client)
        assert await version(4) == 1
        assert client.app.models["payments"].service.versions.aliases["champion"] is before, "not loaded again"
        metrics = (await client("GET", "/metrics")).body.decode()
        assert 'mlops_swaps_total{model="payments",outcome="swapped"} 1.0' in metrics
        assert 'mlops_swaps_total{model="payments",outcome="returned"} 1.0' in metrics

    with_app(tmp_path, use)


@pytest.mark.parametrize("fault", ["missing", "tampered", "golden", "other bits", "aliases"])
def test_a_version_that_is_not_fit_replaces_nothing(tmp_path: Path, fault: str):
    bundle(tmp_path / "m", 1)
    champion(tmp_path, 1)
    place = tmp_path / "m" / "versions" / "2"

    async def use(client: Client) -> None:
        if fault != "missing":
            bundle(tmp_path / "m", 2)
        if fault == "tampered":
            (place / MODEL_FILE).write_bytes(bytes(booster(5).save_raw()))
        elif fault in ("golden", "other bits"):
            document = json.loads((place / DOCUMENT).read_text())
            scores = bytearray(document["golden"]["scores"].encode())
            scores[0:4] = b"AAAA" if fault == "golden" else scores[0:3] + bytes([scores[3] ^ 1])
            document["golden"]["scores"] = scores.decode()
            (place / DOCUMENT).write_text(json.dumps(document))
        champion(tmp_path, 2)
        if fault == "aliases":
            (tmp_path / "m" / ALIASES_FILE).write_text('{"aliases": ')
        await looked(client)
        assert (await client("POST", "/v1/score", event())).json["model_version"] == 1
        assert (await client("GET", "/health/ready")).status == 200
        refused = (await client("GET", "/version")).json["models"]["payments"]["refused"]
        assert ("champion" in refused) == (fault != "aliases")

    with_app(tmp_path, use)


def test_without_a_fit_version_the_server_is_never_ready(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    (tmp_path / "m" / "versions" / "1" / MODEL_FILE).write_bytes(b"no model")
    champion(tmp_path, 1)

    async def use(client: Client) -> None:
        assert (await client("GET", "/health/ready")).status == 503
        assert (await client("GET", "/ping")).status == 503
        assert (await client("GET", "/health/live")).status == 200
        reply = await client("POST", "/v1/score", event())
        assert (reply.status, reply.headers["retry-after"]) == (503, "2")

    with_app(tmp_path, use)


@pytest.mark.proof  # a minute of swaps
def test_a_thousand_swaps_under_load_mix_no_versions_and_fail_no_request(tmp_path: Path):
    made = {number: bundle(tmp_path / "m", number, threshold=number / 10) for number in (1, 2, 3)}
    champion(tmp_path, 1)
    scores = {number: expected(found) for number, found in made.items()}
    assert len(set(scores.values())) == 3
    swaps, answers, done = 1_000, 0, False

    async def use(client: Client) -> None:
        nonlocal answers, done

        async def ask(name: str) -> None:
            nonlocal answers
            number = 0
            while not done:
                number += 1
                reply = await client("POST", "/v1/score", event(f"{name}-{number}"))
                answer = reply.json
                assert reply.status == 200
                # The version in the answer explains its bits, its threshold and its policy.
                assert answer["score"] == scores[answer["model_version"]]
                assert answer["threshold"] == answer["model_version"] / 10
                assert answer["policy_version"] == f"v{answer['model_version']}-cost"
                answers += 1
                await asyncio.sleep(0)

        async def swap() -> None:
            nonlocal done
            for number in range(swaps):
                champion(tmp_path, (number + 1) % 3 + 1)
                await looked(client)
            done = True

        await asyncio.gather(swap(), *(ask(f"caller{number}") for number in range(4)))
        metrics = (await client("GET", "/metrics")).body.decode()
        counted = [line for line in metrics.splitlines() if line.startswith("mlops_swaps_total")]
        assert sum(float(line.rpartition(" ")[2]) for line in counted) == swaps
        assert len(client.logged()) == answers

    with_app(tmp_path, use, {"log_bytes": str(2**30)})

    assert answers > swaps


def test_a_changed_policy_is_followed_without_another_version(tmp_path: Path):
    bundle(tmp_path / "m", 1)
    champion(tmp_path, 1)

    async def use(client: Client) -> None:
        async def answered(number: int) -> tuple[str, str]:
            answer = (await client("POST", "/v1/score", event(f"e-{number}"))).json
            return str(answer["decision"]), str(answer["policy_version"])

        assert await answered(1) == ("approve", "v1-cost")
        path = tmp_path / "m" / ALIASES_FILE
        document = json.loads(path.read_text())
        document["policies"] = {"1": {"version": "v1.2-cost", "threshold": 0.0, "rule": "cost"}}
        path.write_text(json.dumps(document))
        await looked(client)
        assert await answered(2) == ("review", "v1.2-cost")
        document["policies"] = {"1": {"version": "v1.3-cost"}}
        path.write_text(json.dumps(document))
        await looked(client)
        assert await answered(3) == ("review", "v1.2-cost"), "what can't be read changes nothing"

    with_app(tmp_path, use)
