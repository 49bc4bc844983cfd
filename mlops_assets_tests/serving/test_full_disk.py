"""A disk that is really full: what was answered is on it, the rest is refused, or answered and counted."""

from __future__ import annotations

import shutil
import sys
from collections import Counter
from pathlib import Path

import pytest
import requests

from mlops_assets.serving.log.record import decode
from mlops_assets.serving.log.segments import records
from mlops_assets_tests.serving.kit import event
from mlops_assets_tests.serving.registry import Registry
from mlops_assets_tests.serving.served import Running, running

pytestmark = [
    pytest.mark.proof,  # starts servers
    pytest.mark.skipif(sys.platform != "linux" or not shutil.which("unshare"), reason="a disk of its own needs Linux"),
]
DISK = "3m"
# Nothing takes the rows away: the broker is not there.
DEAD = {"port": "0", "log": "kafka://127.0.0.1:1/predictions"}
EVENTS = 8_000


def logged(server: Running, home: Path) -> Counter[str]:
    """Return the events in the segments, as the server's own namespace shows them."""
    root = Path(f"/proc/{server.process.pid}/root")
    files = sorted((root / (home / "serving").relative_to("/")).glob("*/log/*/*.seg"))
    return Counter(decode(payload).event_id for path in files for payload, _ in records(path))


def ask(server: Running) -> dict[int, list[str]]:
    """Send events until the disk has been full for a while; return their ids by status."""
    session, answers = requests.Session(), dict[int, list[str]]()
    for number in range(EVENTS):
        reply = session.post(f"{server.url}/v1/score", json=event(f"f-{number}"), timeout=30)
        answers.setdefault(reply.status_code, []).append(f"f-{number}")
        if len(answers.get(503, ())) >= 20:
            break
    return answers


def test_without_space_an_event_is_refused_and_no_answered_one_is_lost(tmp_path: Path):
    registry = Registry(tmp_path)
    registry.register(1)

    with running(registry, environ=DEAD, disk=DISK) as server:
        answers = ask(server)
        found = logged(server, registry.settings.home)
        refused = answers[503][0]
        again = requests.post(f"{server.url}/v1/score", json=event(refused), timeout=30)

    assert set(answers) == {200, 503}
    assert [name for name in answers[200] if found[name] != 1] == []
    assert not set(answers[503]) & set(found)
    assert again.status_code == 503
    assert again.headers["retry-after"]


def test_by_setting_it_is_answered_and_counted(tmp_path: Path):
    registry = Registry(tmp_path)
    registry.register(1)

    with running(registry, environ=DEAD | {"log_full": "count"}, disk=DISK) as server:
        answers = ask(server)
        found = logged(server, registry.settings.home)
        metrics = requests.get(f"{server.url}/metrics", timeout=30).text
        (dropped,) = [line for line in metrics.splitlines() if line.startswith("mlops_log_dropped_total{")]

    assert set(answers) == {200}
    assert float(dropped.rpartition(" ")[2]) == len(answers[200]) - len(found) > 0
