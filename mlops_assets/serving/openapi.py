"""The OpenAPI document of a server, from the contracts of its models.

What belongs here: that document. What does not: checking requests: the same types do it (`features`, `events`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlops_assets import __version__
from mlops_assets.lineage import PROBABILITY
from mlops_assets.serving.answers import Answer
from mlops_assets.serving.events import request_type
from mlops_assets.serving.mlflow_protocol import FORMS

if TYPE_CHECKING:
    from mlops_assets.serving.service import ModelService

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {"type": "string"},
        "fields": {"type": "array", "items": {"$ref": "#/components/schemas/Finding"}},
        "rows": {"type": "array", "items": {"type": "object"}},
        "bad_rows": {"type": "integer"},
    },
}
_FINDING: Final = {
    "type": "object",
    "required": ["name", "reason"],
    "properties": {"name": {"type": "string"}, "reason": {"type": "string"}},
}
_REFUSALS: Final = {
    400: "Not readable.",
    401: "No valid key.",
    404: "Not served.",
    409: "Another event with this id was decided before.",
    413: "Too large.",
    415: "Another content type.",
    422: "Breaks the contract; names only.",
    429: "Too many requests.",
    503: "Not ready, or it can't be logged.",
    504: "The deadline has passed.",
}


def document_of(services: Sequence[ModelService]) -> dict[str, Any]:
    """Return the document; the first model is that of the addresses without a name."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"Problem": _PROBLEM, "Finding": _FINDING}
    for number, service in enumerate(services):
        _, known = msgspec.json.schema_components((Answer,), ref_template="#/components/schemas/{name}")
        schemas |= known
        event = f"Event_{service.name}"
        schemas |= _event_schemas(service, event)
        for prefix in ([""] if number == 0 else []) + [f"/models/{service.name}"]:
            paths |= _paths(prefix, event)
    return {
        "openapi": "3.1.0",
        "info": {"title": "mlops_assets", "version": __version__, "description": "Scores of fraud models."},
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _event_schemas(service: ModelService, name: str) -> dict[str, Any]:
    event = request_type(service.contract, service.reader.struct)
    (reference,), known = msgspec.json.schema_components((event,), ref_template="#/components/schemas/{name}")
    renamed = {"Event": name, "Features": f"Features_{service.name}"}
    schemas = {renamed.get(found, found): schema for found, schema in known.items()}
    inner = schemas[renamed[reference["$ref"].rpartition("/")[2]]]
    inner["properties"]["features"] = {"$ref": f"#/components/schemas/{renamed['Features']}"}
    return schemas


def _paths(prefix: str, event: str) -> dict[str, Any]:
    score = _operation("Decide about one event.", {"$ref": f"#/components/schemas/{event}"}, _ref("Answer"))
    batch = _operation(
        "Decide about several events, each with its own status.",
        {
            "type": "object",
            "required": ["events"],
            "additionalProperties": False,
            "properties": {
                "events": {
                    "type": "array",
                    "description": "An item that is no event gets a status of its own, and stops none of the others.",
                    "items": {"anyOf": [{"$ref": f"#/components/schemas/{event}"}, {}]},
                }
            },
        },
        {
            "type": "object",
            "required": ["results"],
            "properties": {"results": {"type": "array", "items": {"type": "object"}}},
        },
    )
    invocations = _operation(
        "MLflow's scoring protocol.",
        {"type": "object", "oneOf": [{"required": [form]} for form in FORMS]},
        {
            "type": "object",
            "required": ["predictions"],
            "properties": {"predictions": {"type": "array", "items": {"type": "number"}}},
        },
    )
    invocations["requestBody"]["content"]["text/csv"] = {"schema": {"type": "string"}}
    invocations["description"] = f"One of dataframe_split, dataframe_records, instances, inputs; answers {PROBABILITY}."
    decision = _operation("The decision about an event, again.", None, _ref("Answer"))
    decision["parameters"] = [{"name": "event_id", "in": "path", "required": True, "schema": {"type": "string"}}]
    return {
        f"{prefix}/v1/score": {"post": score},
        f"{prefix}/v1/score/batch": {"post": batch},
        f"{prefix}/v1/decisions/{{event_id}}": {"get": decision},
        f"{prefix}/invocations": {"post": invocations},
        f"{prefix}/latest/invocations": {"post": invocations},
    }


def _operation(summary: str, request: dict[str, Any] | None, answer: dict[str, Any]) -> dict[str, Any]:
    responses: dict[str, Any] = {"200": {"description": "Done.", "content": {"application/json": {"schema": answer}}}}
    for status, meaning in _REFUSALS.items():
        responses[str(status)] = {
            "description": meaning,
            "content": {"application/json": {"schema": _ref("Problem")}},
        }
    operation: dict[str, Any] = {"summary": summary, "responses": responses, "security": [{}, {"bearer": []}]}
    if request is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": request}}}
    return operation


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}
