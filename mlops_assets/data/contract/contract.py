"""The data contract: one declarative object that says what a table of transactions must look like.

What belongs here: the contract's model, its YAML form, and what can be derived from it alone (feature list, event
time in seconds, storage types). What does not: looking at rows (`conform`), fetching them (`sources`).

Column names are lower-cased everywhere: Spark compares names without case, pandas and XGBoost do not, and a table
that was written as `V1` and read as `v1` is a bug that shows only in production.
"""

from __future__ import annotations

import hashlib
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlops_assets.data.contract.column import Column, LabelColumns
from mlops_assets.errors import ContractError

SHIPPED = ("creditcard", "handbook", "cards")
SECONDS_PER_DAY = 86_400.0
BY_EVENT_TIME, BY_ARRIVAL = "event_time", "arrival"
_OF_MODELS = {"categories": True, "monotone": True}


class Contract(BaseModel):
    """What a data set promises; see `mlops_assets/data/contract/shipped/*.yaml` for those that ship.

    Attributes:
        name: Name of the data set.
        version: Raised by hand whenever the columns change; stored with the table.
        description: What the data are and where they come from; model cards say it.
        license: Under which terms they may be used, such as an SPDX identifier; model cards say it.
        columns: All columns that are kept, in the order of the raw table.
        features: Names of the columns that a model may see, in the order of the feature matrix.
        categories: Features that are text: a model splits their levels into groups. `type: category` of a column says
            the same.
        monotone: Features in which a model's score may only rise (1) or fall (-1), all else equal.
        target: The label, 1 = fraud, 0 = genuine; must be of type long.
        event_time: When the transaction happened: `timestamp`, or a number of seconds since any fixed origin.
        key: Column that identifies a row, if there is one: rows with one key are one row, and its last write wins (see
            `data/ingest/merge`).
        last_write: What decides which of several rows with one key is the last write: `event_time`, `arrival`, or the
            name of a column that holds the row's version.
        time_zone: IANA name of the zone whose days count: sets are cut at their borders, alert budgets and label delays
            are in these days. Only for timestamps; seconds since an origin have days of 86,400 seconds and no zone.
        entity: Column that identifies the customer or card, if there is one.
        amount: Column with the money at stake, if there is one; used for costs, allowed as a feature. Its `min` must be
            0 or more: a missed fraud of -20 would lower the cost of missing frauds.
        ignored: Columns that may be in the input and are dropped; any other unknown column is refused.
        rename: Names that columns have in the input, with the name here (`diff.renamed`).
        ordered: Whether rows arrive in event-time order inside one file.
        label_delay_days: Days until a label can be trusted; the default gap between time-ordered splits. Younger rows
            are left out of them, whatever their label.
        labels: Columns of label files, if labels come later than their transactions; the target may be nullable then.
        min_rows: Smallest number of rows that one load may have.
        max_bad_share: Largest share of rows of one input that may be set aside; an input with more is refused whole.
            The default is one in a hundred: more points to a changed export, a wrong file or a wrong contract, and
            frauds are rare enough to get lost in it.
        max_changed_share: Largest share of a column's known values, or of the known labels of one class, that one load
            may change; a load that would change more is refused whole (see `data/ingest/changes`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    version: int = Field(ge=1)
    description: str = ""
    license: str = ""
    columns: tuple[Column, ...] = Field(min_length=3)
    features: tuple[str, ...] = Field(min_length=1)
    categories: tuple[str, ...] = ()
    monotone: dict[str, Literal[-1, 1]] = {}
    target: str
    event_time: str
    time_zone: str = "UTC"
    key: str | None = None
    last_write: str = BY_EVENT_TIME
    entity: str | None = None
    amount: str | None = None
    ignored: tuple[str, ...] = ()
    rename: dict[str, str] = {}
    ordered: bool = True
    label_delay_days: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    labels: LabelColumns | None = None
    min_rows: int = Field(default=1, ge=1)
    max_bad_share: float = Field(default=0.01, ge=0, le=1, allow_inf_nan=False)
    max_changed_share: float = Field(default=0.2, ge=0, le=1, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _categories_by_type(cls, given: Any) -> Any:
        """Read `type: category` as what it stands for, so that both spellings are one contract of one table."""
        columns = given.get("columns") if isinstance(given, dict) else None
        if not isinstance(columns, list | tuple):
            return given
        named = [c.get("name") for c in columns if isinstance(c, dict) and c.get("type") == "category"]
        listed = given.get("categories") or ()
        if not named or not isinstance(listed, list | tuple):
            return given
        plain = [{**c, "type": "string"} if isinstance(c, dict) and c.get("type") == "category" else c for c in columns]
        return {**given, "columns": plain, "categories": [*listed, *(name for name in named if name not in listed)]}

    @field_validator("ignored")
    @classmethod
    def _lower(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(name.lower() for name in names)

    @field_validator("rename")
    @classmethod
    def _lower_keys(cls, names: dict[str, str]) -> dict[str, str]:
        return {given.lower(): name.lower() for given, name in names.items()}

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        # These files hold no zone of their own: the machine's, or one that counts leap seconds.
        if name not in ("localtime", "posixrules") and not name.startswith(("posix/", "right/")):
            try:
                return ZoneInfo(name).key
            except (ZoneInfoNotFoundError, ValueError, OSError):
                pass  # an OSError for a folder, such as `Europe`
        close = get_close_matches(name, available_timezones(), 3)
        hint = f", such as {', '.join(close)}" if close else ""
        raise ValueError(f"{name!r} is not a time zone: use an IANA name{hint}")

    @model_validator(mode="after")
    def _roles_refer_to_columns(self) -> Self:
        names = [column.name for column in self.columns]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"columns named twice: {', '.join(doubled)}")
        roles = {"target": self.target, "event_time": self.event_time, "key": self.key, "entity": self.entity}
        roles |= {"amount": self.amount} | {f"feature {name}": name for name in self.features}
        absent = [f"{role} -> {name}" for role, name in roles.items() if name is not None and name not in names]
        if absent:
            raise ValueError(f"roles that name no column: {', '.join(absent)}")
        self._check_features()
        self._check_roles()
        self._check_last_write()
        self._check_labels()
        kept = sorted(set(names) & set(self.ignored))
        if kept:
            raise ValueError(f"columns both kept and ignored: {', '.join(kept)}")
        wrong = sorted(given for given, name in self.rename.items() if name not in names or given in names)
        if wrong or len(set(self.rename.values())) < len(self.rename):
            raise ValueError(f"rename leads other names to columns, one to each: {', '.join(wrong or self.rename)}")
        return self

    def _check_roles(self) -> None:
        named = [self.target, self.event_time, *{self.key, self.entity, self.amount}]
        doubled = sorted({name for name in (self.target, self.event_time) if named.count(name) > 1})
        if doubled:
            raise ValueError(f"target or event time with a second role: {', '.join(doubled)}")
        if self.column(self.target).type != "long":
            raise ValueError(f"target {self.target} must be of type long")
        if self.column(self.event_time).type in ("string", "boolean"):
            raise ValueError(f"event_time {self.event_time} must be a timestamp or a number of seconds")
        if self.time_zone != "UTC" and self.column(self.event_time).type != "timestamp":
            raise ValueError(
                f"time_zone {self.time_zone} needs timestamps: event_time {self.event_time} is a number of seconds, on "
                "a clock without a zone"
            )
        flags = [name for name in (self.key, self.entity) if name is not None and self.column(name).type == "boolean"]
        if flags:
            raise ValueError(f"key or entity of type boolean, which tells no two of them apart: {', '.join(flags)}")
        if self.amount is not None:
            self._check_amount(self.column(self.amount))
        for required in (self.event_time, self.key):
            if required is not None and self.column(required).nullable:
                raise ValueError(f"{required} is event time or key and can't be nullable")
        if self.column(self.target).nullable and self.labels is None:
            raise ValueError(f"target {self.target} can't be nullable, unless `labels` says how labels come later")

    @staticmethod
    def _check_amount(column: Column) -> None:
        if column.type not in ("double", "long"):
            raise ValueError(f"amount {column.name} must be numeric")
        if column.nullable:
            raise ValueError(f"amount {column.name} can't be nullable")
        if column.min is None or column.min < 0:
            raise ValueError(
                f"amount {column.name} needs `min: 0` (or more): amounts below 0 have no cost; if there are refunds, "
                "load the money at stake as a column of its own, 0 for a refund"
            )

    def _check_last_write(self) -> None:
        if self.last_write in (BY_EVENT_TIME, BY_ARRIVAL):
            return
        if self.key is None:
            raise ValueError("last_write is about rows with one key: name a `key`")
        if self.last_write not in self.column_names:
            raise ValueError(f"last_write must be `{BY_EVENT_TIME}`, `{BY_ARRIVAL}` or a column, not {self.last_write}")
        column = self.column(self.last_write)
        if column.type in ("string", "boolean") or column.nullable or column.name in (self.key, self.target):
            raise ValueError(
                f"last_write: {column.name} can't be a row's version: that is a number or a timestamp, not nullable, "
                "and neither the key nor the target"
            )

    def _check_labels(self) -> None:
        if self.labels is None:
            return
        subjects = [name for name in (self.key, self.entity) if name is not None]
        if not subjects:
            raise ValueError("labels can't be told apart: they need a `key` or an `entity` in the contract")
        if self.labels.key not in subjects:
            raise ValueError(
                f"labels.key {self.labels.key} must be the contract's key or entity: {', '.join(subjects)}"
            )
        by_key, window = self.labels.key == self.key, self.labels.window_days
        if not by_key and window is None:
            raise ValueError(
                f"labels by the entity {self.labels.key} need `window_days`: without it one report would make fraud of "
                "everything that the entity ever did"
            )
        if by_key and window is not None:
            raise ValueError(f"labels by the key {self.labels.key} are about one transaction each: no `window_days`")

    def _check_features(self) -> None:
        forbidden = {self.target, self.event_time, self.key, self.entity} & set(self.features)
        if forbidden:
            raise ValueError(f"never a feature: {', '.join(sorted(str(name) for name in forbidden))} (a leak)")
        if len(set(self.features)) != len(self.features):
            raise ValueError("a feature is listed twice")
        numeric = [name for name in self.features if name not in self.categories]
        textual = [name for name in numeric if self.column(name).type not in ("double", "long", "boolean")]
        if textual:
            raise ValueError(
                f"features must be numeric, boolean, or text of `type: category`: {', '.join(textual)} (`categories` "
                "names them as well)"
            )
        other = [name for name in self.categories if name not in self.features or self.column(name).type != "string"]
        if other:
            raise ValueError(f"categories must be features of type string or category: {', '.join(map(str, other))}")
        if other := sorted(set(self.monotone) - set(numeric)):
            raise ValueError(f"monotone is for numeric features: {', '.join(other)}")

    def column(self, name: str) -> Column:
        """Return the column called `name`; raises KeyError for one that is not in the contract."""
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(name)

    @property
    def versioned_by(self) -> str | None:
        """The column whose greater value is the later write of a key; None if the later arrival is."""
        return {BY_EVENT_TIME: self.event_time, BY_ARRIVAL: None}.get(self.last_write, self.last_write)

    @property
    def column_names(self) -> tuple[str, ...]:
        """Names of all kept columns, in table order."""
        return tuple(column.name for column in self.columns)

    @property
    def versioned_name(self) -> str:
        """Name and version, as tables and messages give them."""
        return f"{self.name} v{self.version}"

    @property
    def fingerprint(self) -> str:
        """Hash of everything that the contract says about the table.

        Descriptions, the license, label columns, how much a load may change and what is about models alone don't count.
        """
        about = {"description": True, "license": True, "labels": True, "max_changed_share": True, "rename": True}
        if self.last_write == BY_EVENT_TIME:  # as before there was a choice
            about["last_write"] = True
        meaning = self.model_dump_json(exclude={**about, **_OF_MODELS, "columns": {"__all__": {"description"}}})
        return hashlib.sha256(meaning.encode()).hexdigest()[:16]

    def to_yaml(self) -> str:
        """Return the YAML text from which `parse_contract` rebuilds this contract."""
        return yaml.safe_dump(self.model_dump(mode="json", exclude_defaults=True), sort_keys=False)


def parse_contract(text: str, *, where: str) -> Contract:
    """Build a contract from YAML text.

    Args:
        text: The YAML document.
        where: Its name in errors (a path, or the name of a shipped contract).

    Raises:
        ContractError: The text is not YAML, or breaks a rule of `Contract`.
    """
    fix = "compare it with mlops_assets/data/contract/shipped/creditcard.yaml"
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ContractError(f"not valid YAML: {error}", where=where, fix=fix) from error
    if not isinstance(document, dict):
        raise ContractError("a contract is a YAML mapping with name, columns, features ...", where=where, fix=fix)
    try:
        return Contract.model_validate(document)
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(str(part) for part in item['loc']) or 'contract'}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors()
        )
        raise ContractError(problems, where=where, fix=fix) from None


def load_contract(name_or_path: str) -> Contract:
    """Load a shipped contract by name, a user's own from a YAML file, or one given as a JSON document.

    Raises:
        ContractError: There is no such contract, or it can't be used.
    """
    if name_or_path.startswith("{"):  # the document itself, as a step on a cluster receives it: JSON is YAML
        return parse_contract(name_or_path, where="contract from the launching side")
    if name_or_path in SHIPPED:
        text = (resources.files("mlops_assets.data.contract") / "shipped" / f"{name_or_path}.yaml").read_text("utf-8")
        return parse_contract(text, where=name_or_path)
    path = Path(name_or_path)
    if not path.is_file():
        raise ContractError(
            "no such contract",
            where=name_or_path,
            fix=f"name one that ships ({', '.join(SHIPPED)}) or the path of a YAML file",
        )
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ContractError(f"can't be read: {error}", where=str(path), fix="make it a readable UTF-8 file") from None
    return parse_contract(text, where=str(path))
