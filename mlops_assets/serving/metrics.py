"""Metrics in Prometheus' format, right with several workers.

What belongs here: names, buckets, and adding up over workers. What does not: when something is counted (`service`).

Each worker counts in files below a folder that all of them share (prometheus_client's multiprocess mode), so any worker
answers a scrape for all. What the disk says (how much of the log waits) is read at the scrape.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.serving.log.carrier import read_state, unsent

if TYPE_CHECKING:
    from mlops_assets.serving.service import ModelService

CONTENT_TYPE: Final = b"text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (
    0.0001, 0.0002, 0.0003, 0.0005, 0.00075, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
)  # fmt: skip
_SCORES: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.97, 0.99, 0.999)
_VARIABLE: Final = "PROMETHEUS_MULTIPROC_DIR"


class Metrics:
    """Counters and histograms of a worker.

    Args:
        folder: Folder that all workers of a server share; None counts for this process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            os.environ[_VARIABLE] = str(folder)  # prometheus_client reads it when it is imported
        from prometheus_client import CollectorRegistry, Counter, Histogram

        self._folder = folder
        self._registry = CollectorRegistry()
        given: dict[str, Any] = {"registry": self._registry}
        self._requests = Counter("mlops_requests", "Requests by status.", ("model", "route", "status"), **given)
        self._seconds = Histogram(
            "mlops_request_seconds", "Seconds from request to answer.", ("model", "route"), buckets=_SECONDS, **given
        )
        self._scores = Histogram("mlops_scores", "Scores.", ("model", "version"), buckets=_SCORES, **given)
        labels = ("model", "version", "policy", "arm", "decision")
        self._decisions = Counter("mlops_decisions", "Rows by decision.", labels, **given)
        self._swaps = Counter("mlops_swaps", "Changes of a served version by outcome.", ("model", "outcome"), **given)
        self._shadow = Counter("mlops_shadow", "Shadow scores by outcome.", ("model", "outcome"), **given)
        self._unlogged = Counter("mlops_log_dropped", "Rows that were answered and not logged.", ("model",), **given)
        # `labels()` takes a lock and a lookup; each combination is kept.
        self._request = cache(self._requests.labels)
        self._second = cache(self._seconds.labels)
        self._score = cache(self._scores.labels)
        self._decision = cache(self._decisions.labels)
        self._scored: list[tuple[str, int, str, str, str, float | None]] = []

    def request(self, model: str, route: str, status: int, seconds: float) -> None:
        """Count a request and what it has decided: once the answer is on its way, so that no caller waits for it."""
        self._request(model, route, str(status)).inc()
        self._second(model, route).observe(seconds)
        noted, self._scored = self._scored, []
        for of, version, policy, arm, decision, score in noted:
            self._decision(of, str(version), policy, arm, decision).inc()
            if score is not None:
                self._score(of, str(version)).observe(score)

    def scored(self, model: str, version: int, policy: str, arm: str, decision: str, score: float | None) -> None:
        """Note a decision and its score, which a fallback has not; `request` counts it."""
        self._scored.append((model, version, policy, arm, decision, score))

    def swapped(self, model: str, outcome: str) -> None:
        """Count a change of a served version: `swapped`, `returned` to the one before, or `refused`."""
        self._swaps.labels(model, outcome).inc()

    def shadowed(self, model: str, outcome: str) -> None:
        """Count a shadow score: `scored`, `late` or `dropped`."""
        self._shadow.labels(model, outcome).inc()

    def dropped(self, model: str, rows: int) -> None:
        """Count rows that were answered and not logged."""
        self._unlogged.labels(model).inc(rows)

    def exposition(self, services: list[ModelService]) -> bytes:
        """Return all metrics of all workers in Prometheus' text format."""
        from prometheus_client import CollectorRegistry, generate_latest
        from prometheus_client.multiprocess import MultiProcessCollector

        counted = self._registry
        if self._folder is not None:
            counted = CollectorRegistry()
            MultiProcessCollector(counted, path=str(self._folder))
        looked_up = CollectorRegistry()
        looked_up.register(_Disk(services))
        return bytes(generate_latest(counted)) + bytes(generate_latest(looked_up))


class _Disk:
    """What a scrape looks up: the log on disk, and the versions that are served."""

    def __init__(self, services: list[ModelService]) -> None:
        self._services = services

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        waiting = GaugeMetricFamily("mlops_log_unsent_bytes", "Bytes of the log that the sink lacks.", labels=["model"])
        oldest = GaugeMetricFamily(
            "mlops_log_oldest_unsent_seconds", "Age of the oldest unsent segment.", labels=["model"]
        )
        sent = CounterMetricFamily("mlops_log_sent", "Rows that the sink has confirmed.", labels=["model"])
        failures = CounterMetricFamily("mlops_log_failures", "Batches that the sink refused.", labels=["model"])
        damaged = CounterMetricFamily("mlops_log_damaged_bytes", "Bytes that can't be read.", labels=["model"])
        age = GaugeMetricFamily(
            "mlops_model_age_seconds",
            "Age of the version since its registration.",
            labels=["model", "version", "alias"],
        )
        for service in self._services:
            size, since = unsent(service.log_folder)
            state = read_state(service.log_folder)
            waiting.add_metric([service.name], size)
            oldest.add_metric([service.name], time.time() - since if since else 0.0)
            sent.add_metric([service.name], state.sent)
            failures.add_metric([service.name], state.failures)
            damaged.add_metric([service.name], state.damaged)
            for alias, version in service.versions.aliases.items():
                age.add_metric([service.name, str(version.number), alias], time.time() - version.created)
        yield from (waiting, oldest, sent, failures, damaged, age)
