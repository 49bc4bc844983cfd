"""`FraudModelComponent`: a model from `defs.yaml` and `contract.yaml` in a folder, without code.

What belongs here: the attributes of `defs.yaml`, and the files of a new folder. What does not: what a model consists of
(`factory`).

Annotations are not postponed: Dagster makes the attributes' schema from them.
"""

from datetime import date
from pathlib import Path
from typing import Any

import dagster as dg
import yaml
from pydantic import field_validator

from mlops_assets.data.contract.contract import SHIPPED, load_contract
from mlops_assets.fraud_model.factory import build_fraud_model
from mlops_assets.fraud_model.shared import build_executor, build_resources, build_shared
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec

CONTRACT_FILE = "contract.yaml"


_made: list[tuple[Settings, dict[str, Any]]] = []


def _resources(settings: Settings) -> dict[str, Any]:
    """Return the resources that all components of a process share; Dagster merges none that differ."""
    for known, resources in _made:
        if known == settings:  # compared, not looked up: settings hold a dictionary, which has no hash
            return resources
    _made.append((settings, build_resources(settings)))
    return _made[-1][1]


def shared_definitions() -> dg.Definitions:
    """Return what a code location of components has beside its models: the doctor, alerts, the reaper of clusters."""
    settings = Settings.from_environment()
    # The doctor runs in a code location that has been loaded.
    return build_shared(settings, lambda: None, resources=_resources(settings))


def spec_in(folder: Path) -> FraudModelSpec:
    """Return the model of a component's folder, for an asset of one's own beside it.

    Args:
        folder: Holds `defs.yaml`, whose attributes are plain values.

    Raises:
        SettingsError: An attribute is invalid.
        ContractError: The contract is invalid.
    """
    document = yaml.safe_load((folder / "defs.yaml").read_text("utf-8"))
    return FraudModelComponent(**document.get("attributes") or {}).spec(folder)


class ModelScaffolder(dg.Scaffolder[Any]):
    """Writes the files of a new model: it runs on synthetic transactions until its source is set."""

    def scaffold(self, request: dg.ScaffoldRequest[Any]) -> None:
        """Write `defs.yaml` and `contract.yaml`."""
        dg.scaffold_component(request, {"source": "synthetic"})
        (request.target_path / CONTRACT_FILE).write_text(load_contract(SHIPPED[0]).to_yaml(), encoding="utf-8")


@dg.scaffold_with(ModelScaffolder)
class FraudModelComponent(dg.Component, dg.Model, dg.Resolvable):
    """A fraud model: data, splits, search, registry, automation. The attributes are those of `FraudModelSpec`.

    What is left out has the spec's default, except `name`, which is the folder's, and `contract`, which is the file
    `contract.yaml` beside `defs.yaml`.
    """

    name: str | None = None
    contract: str | None = None
    source: str | None = None
    labels: str | None = None
    database: str | None = None
    registered_model: str | None = None
    experiment: str | None = None
    group: str | None = None
    owners: list[str] | None = None
    retrain_rows: int | None = None
    retrain_days: float | None = None
    first_day: str | None = None
    split: dict[str, Any] | None = None
    search: dict[str, Any] | None = None
    gate: dict[str, Any] | None = None
    restore_champion: bool | None = None
    inference_log: str | None = None
    batch_scores: str | None = None
    placement: dict[str, str] | None = None

    @field_validator("first_day", mode="before")
    @classmethod
    def _as_text(cls, day: Any) -> Any:
        """Dagster reads a day of a YAML file as text, PyYAML as a date."""
        return day.isoformat() if isinstance(day, date) else day

    def spec(self, folder: Path) -> FraudModelSpec:
        """Return the model.

        Args:
            folder: The folder of `defs.yaml`.

        Raises:
            SettingsError: An attribute is invalid.
            ContractError: The contract is invalid.
        """
        contract = self.contract or CONTRACT_FILE
        given = {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}
        defaults = {"name": folder.name, "contract": contract if contract in SHIPPED else str(folder / contract)}
        return FraudModelSpec.parse({**defaults, **given, "contract": defaults["contract"]}, where=str(folder))

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the model's definitions, with the resources of the environment's deployment."""
        settings = Settings.from_environment()
        return dg.Definitions.merge(
            build_fraud_model(self.spec(context.path), settings),
            dg.Definitions(resources=_resources(settings), executor=build_executor(settings)),
        )
