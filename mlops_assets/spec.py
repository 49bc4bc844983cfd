"""One fraud model, described: what `fraud_model.factory` makes assets, jobs and sensors from.

What belongs here: what differs between two models of one code location, its validation, and the names that follow from
it. What does not: where tables, MLflow and clusters are (`deployment`), Dagster, and what a person chooses for
one run (asset config).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from mlops_assets.data.contract.contract import Contract, load_contract
from mlops_assets.data.labels.labels import require_labels
from mlops_assets.errors import SettingsError
from mlops_assets.lineage import MODEL_DOCUMENT_PREFIX

SourceKind = Literal["synthetic", "cards", "openml", "files", "stream", "delta", "table"]
# As `labels` of the source of the same name: the reports of its frauds.
CARDS: Literal["cards"] = "cards"
DEFAULT_EXPERIMENT = "mlops_assets"
# The table of predictions beside a model's other tables, and the asset that loads it.
INFERENCE_LOG = "inference_log"
_THREE_LEVELS = re.compile(r"[^.`\s]+(\.[^.`\s]+){2}")
# Kinds whose sources begin with their names.
_PREFIXED = ("openml", "delta", "table", "stream")
# Hadoop takes these for a pattern.
_ONE_FOLDER = re.compile(r"(?!https?:)[^*?\[\]{}\\]+")
_PLAIN = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


def _loaded(contract: object) -> object:
    return load_contract(contract) if isinstance(contract, str) else contract


def source_kind(source: str) -> SourceKind:
    """Return which kind of source a text names."""
    if source == "synthetic":
        return "synthetic"
    if source == CARDS:
        return CARDS
    if source == "openml" or source.startswith("openml:"):
        return "openml"
    if source.startswith("table:"):
        return "table"
    if source.startswith("stream:"):
        return "stream"
    return "delta" if source.startswith(("delta:", "asset:")) else "files"


def models_in(metadata: Mapping[str, Any]) -> tuple[FraudModelSpec, ...]:
    """Return the models whose documents the metadata of a code location's `Definitions` hold, by their titles."""
    documents = {name: value for name, value in metadata.items() if name.startswith(MODEL_DOCUMENT_PREFIX)}
    return tuple(FraudModelSpec.model_validate(documents[name].value) for name in sorted(documents))


def _labels(known: dict[str, Any]) -> str | None:
    return CARDS if known.get("source") == CARDS else None


def _database(known: dict[str, Any]) -> str:
    return f"{known['name'] or known['contract'].name}_{source_kind(known['source'])}"


class FraudModelSpec(BaseModel):
    """One fraud model of a code location.

    Attributes:
        name: Prefix of the model's asset keys, jobs and sensors: lower-case letters, digits and single underscores.
            Empty for the only model of a code location, whose keys have no prefix.
        contract: The data contract; also the name of a shipped one, or the path of a YAML file.
        source: Where transactions come from: `synthetic`, `cards`, `openml`, `openml:<name or id>`,
            `delta:<folder or URL>`, `asset:<key>@<folder or URL>` (the Delta table of an asset of one's own, which
            becomes upstream), `table:<catalog>.<schema>.<table>` (a table of Unity Catalog), `stream:<folder or URL>`
            (files that arrive there, found by Structured Streaming), or a file, folder, glob or fsspec URL.
        labels: Where files with late labels arrive; None when labels come with the transactions. The default is `cards`
            with source `cards`, the reports of its frauds; otherwise None.
        database: Database of the tables; by default `<name, or the contract's name>_<kind of source>`, so that two
            models, or synthetic and real rows, never share a table.
        registered_model: Name in the MLflow registry; by default `fraud_<database>`.
        experiment: MLflow experiment; by default the model's name, or `mlops_assets` without one.
        group: Asset group; by default the model's name, or the contract's without one.
        owners: Owners of the assets: e-mail addresses, or `team:<name>`.
        retrain_rows: Training is due after this many new rows with known labels.
        retrain_days: Training is due after this many days if there is any new row.
        first_day: First day (UTC) with a partition of `daily_arrivals`, and in the first week of `as_of_backtest`: the
            day on which the first file arrived.
        split: Defaults of the launchpad's options for the sets (`SplitConfig`).
        search: Defaults of the options for the search and its evaluation (`TunedModelConfig`).
        gate: Defaults of the options for the promotion (`GateConfig`).
        restore_champion: Whether the sensor `reconcile_champion` moves the alias back when another client has moved it.
        inference_log: Where predictions are captured: `kafka://<host:port>/<topic>`, `delta:<folder or URL>` (a table
            that a server writes by itself), `databricks:<folder or URL>` (an inference table) or
            `sagemaker:<folder or URL>` (capture files). With it the model has the asset `inference_log`.
        batch_scores: Whose rows the asset `batch_scores` scores with the champion: `raw`, those of the raw table as
            they come in, or `delta:<folder or URL>`, those of that table, named by the contract's key; None for no such
            asset.
        placement: Assets (by name, without the prefix) that do not run on the cluster that they name: `loader`,
            `trials` or `local`. It takes precedence over the Databricks profile's.

    Raises:
        ContractError: The contract is invalid, or it has no `labels` section although `labels` is set.
        SettingsError: The source is `cards`, and the contract is not made for its reports.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    contract: Annotated[Contract, BeforeValidator(_loaded)]
    source: str = Field(default="synthetic", min_length=1)
    labels: str | None = Field(default_factory=_labels, min_length=1)
    database: str = Field(default_factory=_database)
    registered_model: str = Field(default_factory=lambda known: f"fraud_{known['database']}")
    experiment: str = Field(default_factory=lambda known: known["name"] or DEFAULT_EXPERIMENT, min_length=1)
    group: str = Field(default_factory=lambda known: known["name"] or known["contract"].name, min_length=1)
    owners: tuple[str, ...] = Field(default=("team:fraud-platform",), min_length=1)
    retrain_rows: int = Field(default=10_000, ge=1)
    retrain_days: float = Field(default=7.0, gt=0, allow_inf_nan=False)
    first_day: date = date(2020, 1, 1)
    split: dict[str, Any] = Field(default_factory=dict)
    search: dict[str, Any] = Field(default_factory=dict)
    gate: dict[str, Any] = Field(default_factory=dict)
    restore_champion: bool = False
    inference_log: str | None = Field(default=None, pattern=r"^(kafka://[^/]+/[^/]+|(delta|databricks|sagemaker):.+)$")
    batch_scores: str | None = Field(default=None, pattern=r"^(raw|delta:.+)$")
    placement: dict[str, Literal["loader", "trials", "local"]] = Field(default_factory=dict)

    @field_validator("name", "group")
    @classmethod
    def _prefix(cls, name: str) -> str:
        if name and not _PLAIN.fullmatch(name):
            raise ValueError("use lower-case letters, digits and single underscores, starting with a letter")
        return name

    @field_validator("source")
    @classmethod
    def _names_asset_and_table(cls, source: str) -> str:
        if source.startswith("asset:") and not re.fullmatch(r"asset:[^@/]+(/[^@/]+)*@.+", source):
            raise ValueError("name the asset's key and the place of its Delta table: asset:<key>@<folder or URL>")
        if source.startswith("table:") and not _THREE_LEVELS.fullmatch(source.removeprefix("table:")):
            raise ValueError("name the table with all three levels: table:<catalog>.<schema>.<table>")
        if source.startswith("stream:") and not _ONE_FOLDER.fullmatch(source.removeprefix("stream:")):
            raise ValueError("name one folder, without wildcards: stream:<folder or URL>")
        return source

    @field_validator("database", "registered_model")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if not re.fullmatch(r"[a-z0-9][a-z0-9_]*", name):
            raise ValueError("use lower-case letters, digits and underscores")
        return name

    @model_validator(mode="after")
    def _labels_are_known(self) -> Self:
        if self.source_kind == CARDS and self.labels == CARDS and self.contract.labels is None:
            raise SettingsError(
                f"source `{CARDS}` reports its frauds later, and contract {self.contract.name} has no `labels`",
                where=f"model {self.title}",
                fix=f"use the contract `{CARDS}`: MLOPS_CONTRACT={CARDS}, or CONTRACT={CARDS} for `make demo`",
            )
        if self.labels is not None:
            require_labels(self.contract)
        return self

    @model_validator(mode="after")
    def _scored_rows_have_names(self) -> Self:
        if (self.batch_scores or "").startswith("delta:") and self.contract.key is None:
            raise SettingsError(
                f"rows of another table are named by the contract's key, and contract {self.contract.name} has none",
                where=f"batch_scores of model {self.title}",
                fix="set `key` in the contract, or batch_scores to `raw`",
            )
        return self

    @classmethod
    def parse(cls, document: dict[str, Any], *, where: str) -> Self:
        """Return the spec of a document, such as a component's attributes.

        Args:
            document: Values by attribute.
            where: What the document is, for errors.

        Raises:
            SettingsError: A value is invalid, or there is no such attribute; the text names each one.
            ContractError: As above.
        """
        try:
            return cls.model_validate(document)
        except ValidationError as error:
            problems = [
                f"{'.'.join(map(str, item['loc']))}: {item['msg'].removeprefix('Value error, ')}"
                for item in error.errors()
                if item["type"] != "default_factory_not_called"  # it only follows from another one
            ]
            raise SettingsError(
                "; ".join(problems), where=where, fix=f"the attributes are {', '.join(cls.model_fields)}"
            ) from None

    def path(self, asset: str) -> tuple[str, ...]:
        """Return the parts of an asset's key: the model's name, if it has one, and the asset's."""
        return (self.name, asset) if self.name else (asset,)

    def prefixed(self, name: str) -> str:
        """Return the model's name for an op, job, sensor or schedule."""
        return f"{self.name}__{name}" if self.name else name

    @property
    def title(self) -> str:
        """What people call the model: its name, or that of its database."""
        return self.name or self.database

    @property
    def source_kind(self) -> SourceKind:
        """Which kind of source `source` names."""
        return source_kind(self.source)

    @property
    def source_place(self) -> str:
        """What `source` names within its kind: a location, or a name or id on OpenML (empty: the default)."""
        if self.source.startswith("asset:"):
            return self.source.partition("@")[2]
        kind = self.source_kind
        return self.source.removeprefix(kind).removeprefix(":") if kind in _PREFIXED else self.source

    @property
    def upstream(self) -> tuple[str, ...]:
        """Parts of the key of the asset whose table is the source; empty if none is."""
        key = self.source.removeprefix("asset:").partition("@")[0] if self.source.startswith("asset:") else ""
        return tuple(key.split("/")) if key else ()
