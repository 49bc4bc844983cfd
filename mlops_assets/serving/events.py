"""`/v1/score`: one event or several, typed from the contract, each decided once.

What belongs here: the request's form, the same answer for the same event, reasons. What does not: HTTP (`app`), which
version answers (`service`).
"""

from __future__ import annotations

import hashlib
import sqlite3
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

import msgspec

from mlops_assets.data.contract.conform import NULL, UNREADABLE
from mlops_assets.serving.answers import Answer, Reason, Refused
from mlops_assets.serving.features import MISSING, UNKNOWN, Finding
from mlops_assets.serving.log.record import LogRow, encode
from mlops_assets.serving.service import Arrival, Chosen, ModelService, new_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.decisions import Kept

_MOST_REASONS: Final = 20
_ID: Final = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]
_LONG: Final = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
_ENCODE = msgspec.json.Encoder().encode
_UNTYPED = msgspec.json.Decoder()


class _Batch(msgspec.Struct, forbid_unknown_fields=True):
    events: list[msgspec.Raw]


def request_type(contract: Contract, features: type[msgspec.Struct]) -> type[msgspec.Struct]:
    """Return the type of one event under a contract."""
    entity = None if contract.entity is None else contract.column(contract.entity).type
    when: Any = Annotated[datetime, msgspec.Meta(tz=True)]
    if contract.column(contract.event_time).type != "timestamp":
        when = float
    given: dict[str | None, Any] = {"string": _ID, "long": _LONG, "double": float, "timestamp": str}
    fields: list[Any] = [("event_id", _ID), ("event_time", when), ("features", features)]
    if entity is not None:
        fields.append(("entity", given[entity]))
    fields += [
        ("features_as_of", Annotated[datetime, msgspec.Meta(tz=True)] | None, None),
        ("reasons", Annotated[int, msgspec.Meta(ge=0, le=_MOST_REASONS)], 0),
    ]
    return msgspec.defstruct("Event", fields, forbid_unknown_fields=True)


class EventScorer:
    """Answers events for one model.

    Args:
        service: The model.
        writer: Name of this process, as in `Decisions`.
    """

    def __init__(self, service: ModelService, writer: str) -> None:
        self._service, self._writer = service, writer
        self.event = request_type(service.contract, service.reader.struct)
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.event)
        self._batch = msgspec.json.Decoder(_Batch)
        self._has_entity = service.contract.entity is not None

    def score(self, body: bytes, arrival: Arrival) -> bytes:
        """Return the answer about one event, as JSON.

        Raises:
            Refused: The event breaks the contract, has the id of another one, or can't be logged.
        """
        service = self._service
        try:
            event = self._decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            try:
                event = self._decoded(body)
            except Refused as refused:
                service.write_refusal(new_id(), arrival, refused)
                raise
        values = msgspec.structs.astuple(event.features)
        entity = event.entity if self._has_entity else None
        given = _ENCODE((event.event_time, entity, event.features_as_of, values))
        digest = hashlib.blake2b(given, digest_size=16).digest()
        chosen = service.chosen_for(entity)
        answer, row = self._answer(event, values, entity, chosen, arrival)
        content, logged = _ENCODE(answer), encode(row)
        # Kept without looking first: events that come again are few, and a look costs every event 5 microseconds.
        if (kept := self._keep(event.event_id, digest, content, logged)) is not None:
            return self._again(kept, event.event_id, digest, arrival)
        try:
            service.write([logged])
        except Refused:
            service.decisions.forget(event.event_id)
            raise
        service.metrics.scored(service.name, row.version, row.policy, row.arm, row.decision, row.score)
        if service.shadow is not None and row.score is not None:
            service.shadow.put(row, values)
        return content

    def score_batch(self, body: bytes, arrival: Arrival) -> bytes:
        """Return the answers about several events, each with its own status, as JSON.

        Raises:
            Refused: The request is not a batch, or has too many events.
        """
        try:
            events = self._batch.decode(body).events
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refused(422, "this is neither an event nor a list of `events`") from None
        if len(events) > self._service.settings.max_rows:
            raise Refused(413, "too many events in one request")
        results: list[bytes] = []
        for event in events:
            try:
                results.append(b'{"status":200,"answer":%b}' % self.score(bytes(event), arrival))
            except Refused as refused:
                results.append(_ENCODE({"status": refused.status, **refused.document()}))
        return b'{"results":[%b]}' % b",".join(results)

    def find(self, event_id: str) -> bytes:
        """Return the answer that an event got.

        Raises:
            Refused: None is kept.
        """
        kept = self._service.decisions.find(event_id)
        if kept is None:
            raise Refused(404, "no decision with this event id is kept")
        return kept.answer

    def _keep(self, event_id: str, digest: bytes, answer: bytes, row: bytes) -> Kept | None:
        """Keep an answer; without space, refuse the event or go on without, as with a full log."""
        try:
            return self._service.decisions.keep(event_id, digest, answer, row)
        except sqlite3.OperationalError:
            if self._service.settings.log_full == "refuse":
                raise Refused(503, "the decision can't be kept", headers=((b"retry-after", b"5"),)) from None
            return None

    def _again(self, kept: Kept, event_id: str, digest: bytes, arrival: Arrival) -> bytes:
        """Return the answer that an event got before.

        Raises:
            Refused: That was another event (409).
        """
        if kept.digest != digest:
            refused = Refused(409, "another event with this id was decided before")
            self._service.write_refusal(new_id(), arrival, refused, event_id)
            raise refused
        if kept.writer != self._writer:
            self._service.write([kept.row])  # in case that process was killed before it logged the row
        return kept.answer

    def _answer(
        self, event: Any, values: Sequence[Any], entity: object, chosen: Chosen, arrival: Arrival
    ) -> tuple[Answer, LogRow]:
        """Return the answer and the row of the log."""
        service, version, policy = self._service, chosen.version, chosen.version.policy
        scorer = version.scorer
        arm, score, reasons = chosen.arm, None, []
        if arrival.is_late:
            arm, decision = "fallback", service.settings.fallback
        else:
            service.reader.fill(scorer.row, values, version.codes)
            score = scorer.score_row()
            decision = policy.decide(score)
            if event.reasons:
                reasons = _reasons(chosen, event.reasons)
        request_id = new_id()
        as_of = "" if event.features_as_of is None else event.features_as_of.isoformat()
        when = event.event_time
        answer = Answer(
            event_id=event.event_id,
            request_id=request_id,
            decision=decision,
            score=score,
            threshold=policy.threshold,
            policy_version=policy.version,
            model=version.model,
            model_version=version.number,
            alias=chosen.alias,
            arm=arm,
            scored_at=datetime.fromtimestamp(arrival.at, UTC).isoformat(timespec="microseconds"),
            features_as_of=as_of,
            reasons=reasons,
        )
        row = LogRow(
            request_id=request_id,
            model=service.registered,
            at=int(arrival.at * 1e6),
            arm=arm,
            event_id=event.event_id,
            entity=service.entities(entity, arrival.at),
            event_time=when.isoformat() if isinstance(when, datetime) else repr(when),
            features_as_of=as_of,
            contract=service.contract.versioned_name,
            features=dict(zip(service.reader.names, values, strict=True)),
            score=score,
            threshold=policy.threshold,
            decision=decision,
            policy=policy.version,
            version=version.number,
            alias=chosen.alias,
            reasons=[reason.feature for reason in reasons],
            latency_us=arrival.microseconds,
        )
        return answer, row

    def _decoded(self, body: bytes) -> Any:
        """Return an event that has whole numbers with a decimal point, such as 3.0, which JSON does not tell from 3.

        Raises:
            Refused: That was not all; it says what is wrong, by names.
        """
        try:
            document = _UNTYPED.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            raise Refused(400, "the body is not JSON (RFC 8259: no NaN, no Infinity)") from None
        if not isinstance(document, dict):
            raise Refused(422, "an event is a JSON object")
        features = document.get("features")
        whole = [(document, "reasons"), (document, "entity")]
        if isinstance(features, dict):
            whole += [(features, column.name) for column in self._service.reader.columns if column.type == "long"]
        for place, name in whole:
            if isinstance(value := place.get(name), float) and value.is_integer():
                place[name] = int(value)
        try:
            return msgspec.convert(document, self.event)
        except msgspec.ValidationError:
            raise self._explain(document) from None

    def _explain(self, document: dict[str, Any]) -> Refused:
        """Return what is wrong with an event, by names."""
        known = {field.name: field for field in msgspec.structs.fields(self.event)}
        found = [Finding("", UNKNOWN)] if set(document) - set(known) else []
        for name, field in known.items():
            if name == "features":
                continue
            if name not in document:
                if field.required:
                    found.append(Finding(name, MISSING))
                continue
            try:
                msgspec.convert(document[name], field.type)
            except msgspec.ValidationError:
                found.append(Finding(name, NULL if document[name] is None else UNREADABLE))
        features = document.get("features")
        if isinstance(features, dict):
            found += [Finding(f"features.{item.name}", item.reason) for item in self._service.reader.findings(features)]
        else:
            found.append(Finding("features", UNREADABLE if "features" in document else MISSING))
        return Refused(422, "the event breaks the contract", findings=found)


def _reasons(chosen: Chosen, most: int) -> list[Reason]:
    """Return the features that drove the score of the row in the scorer's buffer, the strongest first."""
    scorer = chosen.version.scorer
    row = scorer.row
    (strongest,) = scorer.strongest(row, most)
    return [
        Reason(
            feature=scorer.features[at],
            direction="raises" if effect > 0 else "lowers",
            band=scorer.band(at, float(row[0, at])),
        )
        for at, effect in strongest
    ]
