"""A deployment and one model, as the environment's variables describe them.

What belongs here: the variables of a code location with a single model, and the spec that they make. What does not:
where everything is (`deployment`), what else a model is (`spec`), what a data set is (contract).
"""

from __future__ import annotations

import json
import re
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, field_validator

from mlops_assets.deployment import Deployment

if TYPE_CHECKING:
    from mlops_assets.spec import FraudModelSpec


class Settings(Deployment):
    """A deployment, and one model that is described by variables.

    Attributes:
        source: Where its transactions come from, as in `FraudModelSpec`.
        labels: Where files with its late labels arrive, known only after their transactions: a file, folder, glob or
            fsspec URL; without it those of the source, as in `FraudModelSpec`.
        contract: Name of a shipped contract, or path of a YAML file.
        database: Name of the lakehouse database; by default `<contract's name>_<kind of source>`, so that synthetic and
            real rows never share a table. A home that has one named after the contract's file keeps it.
        experiment: MLflow experiment.
        model_name: Name in the MLflow registry; by default `fraud_<database>`.
        retrain_rows: Training is due after this many new rows with known labels.
        retrain_days: Training is due after this many days if there is any new row.
        first_day: First day (UTC) with a partition, as in `FraudModelSpec`.
        inference_log: Where predictions are captured, as in `FraudModelSpec`.
        batch_scores: Whose rows are scored in batches, as in `FraudModelSpec`.
    """

    source: str = Field(default="synthetic", min_length=1)
    labels: str | None = Field(default=None, min_length=1)
    contract: str = Field(default="creditcard", min_length=1)
    database: str = ""
    experiment: str = Field(default="mlops_assets", min_length=1)
    model_name: str = ""
    retrain_rows: int = Field(default=10_000, ge=1)
    retrain_days: float = Field(default=7.0, gt=0, allow_inf_nan=False)
    first_day: date = date(2020, 1, 1)
    inference_log: str | None = Field(default=None, min_length=1)
    batch_scores: str | None = Field(default=None, min_length=1)

    @field_validator("database", "model_name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if name and not re.fullmatch(r"[a-z][a-z0-9_]*", name):
            raise ValueError("use lower-case letters, digits and underscores, starting with a letter")
        return name

    def spec(self) -> FraudModelSpec:
        """Return the model that the variables describe; its keys have no prefix.

        Raises:
            ContractError: The contract is invalid, or it has no `labels` section although `labels` is set.
        """
        from mlops_assets.data.contract.contract import load_contract
        from mlops_assets.spec import FraudModelSpec

        contract = load_contract(self.contract)
        database = self.database or self._database(contract.name)
        labels: dict[str, Any] = {} if self.labels is None else {"labels": self.labels}
        return FraudModelSpec(
            contract=contract,
            source=self.source,
            **labels,
            database=database,
            registered_model=self.model_name or f"fraud_{database}",
            experiment=self.experiment,
            retrain_rows=self.retrain_rows,
            retrain_days=self.retrain_days,
            first_day=self.first_day,
            inference_log=self.inference_log,
            batch_scores=self.batch_scores,
        )

    def _database(self, contract: str) -> str:
        """Return the database that is named after the contract, or a former one of this home."""
        from mlops_assets.spec import source_kind

        kind = source_kind(self.source)
        # Databases were named after the contract's file before they were named after the contract.
        file = re.sub(r"[^a-z0-9_]+", "_", Path(self.contract).stem.lower()).strip("_") or "contract"
        former, named = f"{file}_{kind}", f"{contract}_{kind}"
        is_former = (self.lakehouse_root / former).is_dir() and not (self.lakehouse_root / named).is_dir()
        return former if is_former else named

    def for_cluster(self) -> dict[str, str]:
        """Return the variables from which a step on a cluster reads these same settings; they hold no secrets."""
        spec = self.spec()
        given = {"MLOPS_LABELS": self.labels, "MLOPS_BATCH_SCORES": self.batch_scores}
        return {
            **super().for_cluster(),
            **{name: value for name, value in given.items() if value is not None},
            "MLOPS_SOURCE": self.source,
            "MLOPS_CONTRACT": json.dumps(spec.contract.model_dump(mode="json", exclude_defaults=True)),
            "MLOPS_DATABASE": spec.database,
            "MLOPS_MODEL_NAME": spec.registered_model,
            "MLOPS_EXPERIMENT": spec.experiment,
            "MLOPS_FIRST_DAY": spec.first_day.isoformat(),
        }
