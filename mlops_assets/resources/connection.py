"""A resource that a run's configuration can't change.

What belongs here: what all resources of the platform have in common. What does not: any one of them.

Dagster lets whoever starts a run override each field of a resource, and fill it with `{env: ANY_VARIABLE}`. For a
connection that means: send the tables elsewhere, or the token to another host. What a run may choose is config of its
assets, which is compared with the model's place.
"""

from __future__ import annotations

from typing import Any

import dagster as dg


class Connection(dg.ConfigurableResource[Any]):
    """Takes its fields from the code location only; a run that has config for it is not valid."""

    def get_resource_definition(self) -> Any:
        """Return Dagster's definition of it, with a schema that has no fields."""
        made = super().get_resource_definition()
        # The fields as they were given; Dagster resolves those that name variables when a run starts.
        given = made.config_schema.as_field().default_value
        closed = dg.configured(made, config_schema={})(lambda _: given)
        return type(made)(
            type(self),
            resource_fn=made.resource_fn,
            config_schema=closed.config_schema,
            description=made.description,
            nested_resources=made.nested_resources,
            nested_partial_resources=made.nested_partial_resources,
        )
