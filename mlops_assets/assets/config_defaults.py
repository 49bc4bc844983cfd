"""A launchpad's form with a model's own defaults.

What belongs here: deriving a config class with other defaults. What does not: the options (each asset's config class),
the values (`spec`).
"""

from collections.abc import Mapping
from copy import copy
from typing import Any, TypeVar

import dagster as dg
from pydantic import ValidationError, create_model

from mlops_assets.errors import SettingsError

_C = TypeVar("_C", bound=dg.Config)


def with_defaults(config: type[_C], values: Mapping[str, Any], *, where: str) -> type[_C]:
    """Return a subclass of a config class with other defaults, or the class itself if there are none.

    Args:
        config: The class; without the values all of its fields must have a default.
        values: Default by field.
        where: Where the values come from, for errors.

    Raises:
        SettingsError: There is no such field, or a value is not valid for it.
    """
    if not values:
        return config
    unknown = sorted(values.keys() - config.model_fields.keys())
    if unknown:
        raise SettingsError(
            f"no such option: {', '.join(unknown)}",
            where=where,
            fix=f"the options are {', '.join(config.model_fields)}",
        )
    try:
        checked = config(**values)
    except (ValidationError, dg.DagsterInvalidConfigError) as error:
        problems = [f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in _errors(error)]
        raise SettingsError("; ".join(problems) or str(error), where=where, fix="give values that fit") from None
    # Dagster takes a mapping of nested config as plain values only.
    plain = {name: value for name, value in values.items() if isinstance(value, Mapping)}
    return with_values(config, {name: getattr(checked, name) for name in values} | plain)


def with_values(config: type[_C], values: Mapping[str, Any]) -> type[_C]:
    """Return a subclass of a config class whose fields have these defaults, which are valid."""
    fields: dict[str, Any] = {}
    for name, value in values.items():
        field = copy(config.model_fields[name])
        field.default, field.validate_default = value, True
        fields[name] = (field.annotation, field)
    return create_model(
        config.__name__, __base__=config, __module__=config.__module__, __doc__=config.__doc__, **fields
    )


def filled_in(config: _C) -> type[_C]:
    """Return a subclass of a config's class whose defaults are its values."""
    return with_values(type(config), {name: getattr(config, name) for name in type(config).model_fields})


def _errors(error: Exception) -> list[Any]:
    return error.errors() if isinstance(error, ValidationError) else []
