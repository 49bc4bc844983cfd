"""One model that is served: from checked rows to decisions, each in the log before its answer goes out.

What belongs here: which version answers, deadline and fallback, the order of keeping, logging and answering. What does
not: HTTP (`app`), the forms of requests (`events`, `mlflow_protocol`, `v2_protocol`), loading versions (`watching`).
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.serving.answers import Refused
from mlops_assets.serving.bundle import ServedVersion
from mlops_assets.serving.features import FeatureReader
from mlops_assets.serving.log.record import Arm, LogRow, encode
from mlops_assets.serving.log.segments import LogFullError, SegmentWriter
from mlops_assets.serving.scoring import Matrix, RowScorer, Scores

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.decisions import Decisions
    from mlops_assets.serving.entities import EntityHash
    from mlops_assets.serving.features import CheckedRows
    from mlops_assets.serving.metrics import Metrics
    from mlops_assets.serving.settings import ServingSettings
    from mlops_assets.serving.shadow import Shadow

CHAMPION: Final = "champion"
# More rows than this are scored in a thread, so that other requests go on and the deadline can strike.
INLINE_ROWS: Final = 256


@dataclass(frozen=True)
class Versions:
    """What is served, replaced as a whole.

    Attributes:
        aliases: Versions by alias, `champion` among them once there is one.
        pinned: Versions by number.
        previous: The champion before, kept to return to.
        refused: Why a version that an alias names is not served, by alias.
    """

    aliases: Mapping[str, ServedVersion] = field(default_factory=dict)
    pinned: Mapping[int, ServedVersion] = field(default_factory=dict)
    previous: ServedVersion | None = None
    refused: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Chosen:
    """The version that answers, and as what."""

    version: ServedVersion
    arm: Arm
    alias: str


@dataclass(frozen=True)
class Arrival:
    """When a request came in, and by when it has to be answered.

    Attributes:
        at: Seconds since 1970.
        clock: The same moment on the monotonic clock, nanoseconds.
        deadline: On the monotonic clock, nanoseconds.
    """

    at: float
    clock: int
    deadline: int

    @classmethod
    def now(cls, milliseconds: float) -> Arrival:
        """Return an arrival at this moment."""
        clock = time.monotonic_ns()
        return cls(time.time(), clock, clock + int(milliseconds * 1e6))

    @property
    def microseconds(self) -> int:
        """Time since then."""
        return (time.monotonic_ns() - self.clock) // 1_000

    @property
    def is_late(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic_ns() >= self.deadline


class ModelService:
    """A served model in one worker.

    Args:
        name: Name of the model in addresses.
        registered: Its name in the registry.
        contract: What a row is.
        settings: How to answer.
        log: Where rows are written before answers go out.
        log_folder: Folder of the log of all workers.
        decisions: Answers by event id.
        entities: Hashes of entities.
        metrics: What is counted.

    Attributes:
        versions: What is served; replaced as a whole by `watching`.
        shadow: Scores events beside the champion; None where nothing does.
    """

    def __init__(
        self,
        name: str,
        registered: str,
        contract: Contract,
        settings: ServingSettings,
        *,
        log: SegmentWriter,
        log_folder: Path,
        decisions: Decisions,
        entities: EntityHash,
        metrics: Metrics,
    ) -> None:
        self.name, self.registered, self.contract, self.settings = name, registered, contract, settings
        self.reader = FeatureReader(contract)
        self.log, self.log_folder, self.decisions, self.entities, self.metrics = (
            log,
            log_folder,
            decisions,
            entities,
            metrics,
        )
        self.versions = Versions()
        self.shadow: Shadow | None = None
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="scoring")

    @property
    def ready(self) -> bool:
        """Whether there is a champion to answer."""
        return CHAMPION in self.versions.aliases

    def champion(self) -> Chosen:
        """Return the champion.

        Raises:
            Refused: There is none yet.
        """
        version = self.versions.aliases.get(CHAMPION)
        if version is None:
            raise Refused(503, "no version of the model is ready", headers=((b"retry-after", b"2"),))
        return Chosen(version, CHAMPION, CHAMPION)

    def chosen_for(self, entity: object) -> Chosen:
        """Return the version that answers for an entity: always the same one while the share of the canary stays.

        Raises:
            Refused: There is none yet.
        """
        settings = self.settings
        if settings.canary and settings.canary_share and entity is not None:
            version = self.versions.aliases.get(settings.canary)
            if version is not None and self.entities.share(entity) < settings.canary_share:
                return Chosen(version, "canary", settings.canary)
        return self.champion()

    def pinned(self, number: int) -> Chosen:
        """Return a version by its number.

        Raises:
            Refused: It is not configured, or was not fit to be served.
        """
        version = self.versions.pinned.get(number)
        if version is None:
            raise Refused(404, "this version is not served")
        return Chosen(version, "pinned", "")

    def write(self, rows: Sequence[bytes]) -> None:
        """Put rows into the log; without space, refuse the request or count the rows, as the settings say.

        Raises:
            Refused: There is no space.
        """
        try:
            self.log.append(*rows)
        except LogFullError:
            if self.settings.log_full == "refuse":
                raise Refused(503, "the prediction can't be logged", headers=((b"retry-after", b"5"),)) from None
            self.metrics.dropped(self.name, len(rows))

    def write_refusal(self, request_id: str, arrival: Arrival, refused: Refused, event_id: str = "") -> None:
        """Log that a request was refused, without anything of its values; a full log only counts it."""
        row = LogRow(
            request_id=request_id,
            model=self.registered,
            at=int(arrival.at * 1e6),
            arm="refused",
            event_id=event_id,
            contract=self.contract.versioned_name,
            latency_us=arrival.microseconds,
            status=refused.status,
            findings=refused.codes,
        )
        try:
            self.log.append(encode(row))
        except LogFullError:
            self.metrics.dropped(self.name, 1)

    async def score_rows(self, chosen: Chosen, checked: CheckedRows, request_id: str, arrival: Arrival) -> Scores:
        """Score rows without event ids, log them, and return their scores, float32 [rows].

        Raises:
            Refused: A row breaks the contract, the deadline passes, or the log is full.
        """
        if checked.bad:
            raise Refused(422, "rows break the contract", rows=checked.bad)
        scores = await self._scores(chosen.version, checked.X, arrival)
        names, columns = tuple(checked.values), tuple(checked.values.values())
        rows, policy = [], chosen.version.policy
        at, latency, contract = int(arrival.at * 1e6), arrival.microseconds, self.contract.versioned_name
        for number, values in enumerate(zip(*columns, strict=True)):
            score = float(scores[number])
            decision = policy.decide(score)
            self.metrics.scored(self.name, chosen.version.number, policy.version, chosen.arm, decision, score)
            rows.append(
                encode(
                    LogRow(
                        request_id=request_id,
                        model=self.registered,
                        at=at,
                        arm=chosen.arm,
                        row=number,
                        contract=contract,
                        features=dict(zip(names, values, strict=True)),
                        score=score,
                        threshold=policy.threshold,
                        decision=decision,
                        policy=policy.version,
                        version=chosen.version.number,
                        alias=chosen.alias,
                        latency_us=latency,
                    )
                )
            )
        if rows:
            self.write(rows)
        return scores

    async def _scores(self, version: ServedVersion, X: Matrix, arrival: Arrival) -> Scores:
        if len(X) <= INLINE_ROWS:
            if arrival.is_late:
                raise Refused(504, "the deadline has passed")
            return version.scorer.score(X)
        left = (arrival.deadline - time.monotonic_ns()) / 1e9
        scoring = asyncio.get_running_loop().run_in_executor(self._threads, self._apart, version, X)
        try:
            return await asyncio.wait_for(scoring, left)
        except TimeoutError:
            raise Refused(504, "the deadline has passed") from None

    @staticmethod
    def _apart(version: ServedVersion, X: Matrix) -> Scores:
        return RowScorer(version.scorer.booster, configured=True).score(X)  # a scorer is for one thread

    def close(self) -> None:
        """Close the log and all files."""
        self._threads.shutdown(wait=True, cancel_futures=True)
        self.log.close()
        self.decisions.close()


def new_id() -> str:
    """Return an id for a request: 32 hexadecimal digits."""
    return os.urandom(16).hex()


def describe(chosen: Chosen) -> dict[str, Any]:
    """Return what `/version` says of a version."""
    version = chosen.version
    return {
        "model": version.model,
        "version": version.number,
        "alias": chosen.alias,
        "run_id": version.run_id,
        "sha256": version.sha256,
        "policy": version.policy.to_json_dict(),
        "registered_at": version.created,
        "golden_rows": len(version.golden.scores),
    }
