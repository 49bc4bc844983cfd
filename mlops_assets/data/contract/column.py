"""The parts of a contract: one column, and the columns of label files.

What belongs here: what can be said of a part alone. What does not: roles of columns, and the contract as a whole
(`contract`).
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

ColumnType = Literal["double", "long", "timestamp", "string", "boolean"]
_ROUNDING = 1e-9


class Column(BaseModel):
    """One column that must be there.

    Attributes:
        name: Lower-cased name of letters, digits and underscores; names that start with an underscore are the
            platform's own.
        type: Storage type; `long` and `double` are 64 bit, `timestamp` is UTC with microseconds. A contract's YAML may
            also say `category`: text, and a feature under the contract's `categories`.
        nullable: Whether nulls are accepted; a feature may be nullable (XGBoost treats null as missing).
        min: Smallest accepted value, in the column's own unit (numeric columns only).
        max: Largest accepted value (numeric columns only).
        tolerance: How far a `double` may lie outside `min` and `max` and still be accepted, as the bound itself: sums
            of floating point numbers end a rounding error below 0. In the column's own unit; 0 accepts nothing outside.
        description: What the column means, shown in the catalogue.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    type: ColumnType
    nullable: bool = False
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    tolerance: float = Field(default=_ROUNDING, ge=0, allow_inf_nan=False)
    description: str = ""

    @field_validator("name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError(f"{name!r}: use lower-case letters, digits and underscores, starting with a letter")
        return name

    @model_validator(mode="after")
    def _range_makes_sense(self) -> Self:
        bounded = self.min is not None or self.max is not None
        if bounded and self.type not in ("double", "long"):
            raise ValueError(f"column {self.name}: a range needs a numeric column, not {self.type}")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError(f"column {self.name}: min {self.min} is above max {self.max}")
        if self.tolerance != _ROUNDING and not (bounded and self.type == "double"):
            raise ValueError(f"column {self.name}: a tolerance needs a `min` or `max` and the type double")
        return self


class LabelColumns(BaseModel):
    """The columns of files that bring labels after the transactions; any others in them are left unread.

    Attributes:
        key: Column that says which transactions a label is about, under the name it has in the contract: the contract's
            key (one transaction) or its entity (its transactions of the last `window_days`, see `labels_frames`).
        label: Column with the label, 1 = fraud, 0 = genuine.
        known_at: Column with the time at which the label became known, on the clock of the contract's event time.
        window_days: How many days a label by entity looks back; required for one, and refused for one by key.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    key: str
    label: str
    known_at: str
    window_days: float | None = Field(default=None, gt=0, allow_inf_nan=False)

    @field_validator("key", "label", "known_at")
    @classmethod
    def _lower(cls, name: str) -> str:
        return name.lower()

    @model_validator(mode="after")
    def _are_three(self) -> Self:
        names = (self.key, self.label, self.known_at)
        if len(set(names)) < len(names):
            raise ValueError("key, label and known_at must be three columns")
        return self
