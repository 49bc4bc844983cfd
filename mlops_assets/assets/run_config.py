"""Config of a run that can't read the process's environment.

What belongs here: closing an op's form. What does not: the options (each asset's config class), what of them may be
chosen (`sources`).

Dagster lets each text, number and switch of a form be `{env: NAME}`: whoever starts a run would see the value in an
error, or send it somewhere as a location. The platform's settings are read by `deployment`, so no form needs it.
"""

from typing import Any

import dagster as dg

_PLAIN = {"StringSourceType": str, "IntSourceType": int, "BoolSourceType": bool}
_OF_FIELDS = (dg.Shape, dg.Permissive, dg.Selector)


def close_form(op: dg.OpDefinition) -> None:
    """Replace each field of an op's form that may name a variable of the environment by one that may not."""
    field = op.config_schema.as_field() if op.has_config_field else None
    if field is not None:
        plain: Any = dg.op(name=op.name, config_schema=_closed(field))(lambda _: None)
        setattr(op, "_config_schema", plain.config_schema)  # noqa: B010 - a decorated function's has no other setter


def _closed(field: Any) -> dg.Field:
    default = {"default_value": field.default_value} if field.default_provided else {}
    return dg.Field(_type(field.config_type), is_required=field.is_required, description=field.description, **default)


def _type(kind: Any) -> Any:
    if isinstance(kind, _OF_FIELDS):
        fields = {name: _closed(inner) for name, inner in kind.fields.items()}
        if isinstance(kind, dg.Selector):
            return dg.Selector(fields, description=kind.description)
        return (dg.Permissive if isinstance(kind, dg.Permissive) else dg.Shape)(fields, description=kind.description)
    if isinstance(kind, dg.Array | dg.Noneable):
        return type(kind)(_type(kind.inner_type))
    if isinstance(kind, dg.Map):
        return dg.Map(_type(kind.key_type), _type(kind.inner_type), key_label_name=kind.given_name)
    return _PLAIN.get(type(kind).__name__, kind)
