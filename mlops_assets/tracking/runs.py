"""Writing into an open MLflow run: params, metrics, tags, data sets, files, the model.

What belongs here: write requests, in a form that every store accepts. What does not: opening and closing runs
(`store`), reading artifacts back (`artifacts`), child runs of trials (`training/search/trial_writer`).

This module only uses the client interface with explicit run ids. MLflow's fluent interface keeps the "active run" of a
thread in a global variable, so runs of parallel assets could be mixed up or left open.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlflow
from mlflow.data.delta_dataset_source import DeltaDatasetSource
from mlflow.data.meta_dataset import MetaDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.models.model import MLMODEL_FILE_NAME
from mlflow.types import ColSpec, Schema

from mlops_assets.lineage import MODEL_SHA256_TAG, PROBABILITY
from mlops_assets.tracking import category_codes
from mlops_assets.tracking.artifacts import sha256_of
from mlops_assets.tracking.category_codes import levels_of
from mlops_assets.tracking.provenance import package_versions
from mlops_assets.tracking.throttling import patiently

if TYPE_CHECKING:
    import pandas as pd
    import xgboost as xgb

    from mlops_assets.tracking.store import Store

MODEL_NAME = "model"
PRODUCTION_MODEL_NAME = "production_model"
_MAX_TAG = 4_000
# SQLAlchemy's and PostgreSQL's names for a duplicate key.
_INSERTED_TWICE = ("IntegrityError", "UniqueViolation")


@dataclass(frozen=True)
class TableInput:
    """A pinned table that a run read.

    Attributes:
        name: Name of the table.
        location: Path or three-level name.
        version: Delta version.
        role: Use of the table: training, validation, test or scoring.
    """

    name: str
    location: str
    version: int
    role: str


@dataclass(frozen=True)
class ParentRun:
    """The open MLflow run of a search."""

    store: Store
    run_id: str

    def log(
        self,
        *,
        params: Mapping[str, object] | None = None,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write params, metrics and tags in one request."""
        written = now()
        patiently(
            lambda: self.store.client.log_batch(
                self.run_id,
                metrics=[Metric(name, value, written, 0) for name, value in (metrics or {}).items()],
                params=[Param(name, str(value)) for name, value in (params or {}).items()],
                tags=[RunTag(name, value) for name, value in cut(tags or {}).items()],
            )
        )

    def log_inputs(self, tables: list[TableInput]) -> None:
        """Log the pinned tables as the run's data sets."""
        inputs = []
        for table in tables:
            named = {"path" if "/" in table.location else "delta_table_name": table.location}
            source = DeltaDatasetSource(**named, delta_table_version=table.version)
            dataset = MetaDataset(source=source, name=table.name, digest=f"v{table.version}")
            entity = dataset._to_mlflow_entity()  # noqa: SLF001 - `mlflow.log_input` calls it too, but needs an active run
            inputs.append(DatasetInput(entity, tags=[InputTag("mlflow.data.context", table.role)]))
        try:
            patiently(lambda: self.store.client.log_inputs(self.run_id, datasets=inputs))
        except MlflowException as error:
            # If two runs are the first to log a data set, both insert it, and MLflow's store rejects the second insert.
            # Repeating the request is safe, and then it finds the data set.
            if not any(name in str(error) for name in _INSERTED_TWICE):
                raise
            patiently(lambda: self.store.client.log_inputs(self.run_id, datasets=inputs))

    def log_files(self, files: Mapping[str, bytes], folder: str | None = None) -> None:
        """Write artifacts from memory.

        Args:
            files: Content by path, relative to `folder`.
            folder: Folder in the run; None for its top level.
        """
        with tempfile.TemporaryDirectory() as scratch:
            for path, content in files.items():
                file = Path(scratch) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
            patiently(lambda: self.store.client.log_artifacts(self.run_id, scratch, folder))

    def log_model(
        self, model: xgb.Booster, example: pd.DataFrame, params: Mapping[str, object], *, name: str = MODEL_NAME
    ) -> str:
        """Write the model with its signature, and return its URI.

        It logs a plain booster, not a scikit-learn wrapper: MLflow serves `predict`, which returns the label for a
        wrapper but the probability of fraud for a booster, as the signature says. The booster is stored in XGBoost's
        own format, so loading it unpickles nothing. The store notes the digest of what was trained, before any file is
        written.

        Args:
            model: The trained booster.
            example: A few rows of features as a caller would send them: float64, int64, bool, text for categories,
                and objects (True, False, None) for booleans that may be missing.
            params: Shown with the model in MLflow's UI.
            name: Name of the model within the run.
        """
        levels = levels_of(model)
        translated = not example.select_dtypes(object).empty  # XGBoost takes no objects
        signature = ModelSignature(
            inputs=Schema([ColSpec(_type_of(example, name, levels), str(name)) for name in example.columns]),
            outputs=Schema([ColSpec("float", PROBABILITY)]),
        )
        shown = {name: str(value) for name, value in params.items()}
        noted = {MODEL_SHA256_TAG: sha256_of(model)}
        client, experiment_id = self.store.client, self.store.experiment_id
        with self.store.selected():
            logged = patiently(
                lambda: client.create_logged_model(
                    experiment_id, name=name, source_run_id=self.run_id, params=shown, tags=noted
                )
            )
            patiently(
                lambda: Model.log(
                    artifact_path=None,
                    flavor=_TranslatedFlavor if translated else mlflow.xgboost,
                    run_id=self.run_id,
                    model_id=logged.model_id,
                    xgb_model=model,
                    signature=signature,
                    input_example=example,
                    pip_requirements=_serving_requirements(),
                )
            )
            patiently(lambda: client.finalize_logged_model(logged.model_id, "READY"))
        return f"models:/{logged.model_id}"


class _TranslatedFlavor:
    """MLflow's XGBoost flavor for a model that is given text, or booleans with gaps: loaded through `category_codes`.

    A copy of that file is part of the model.
    """

    @staticmethod
    def save_model(path: str, mlflow_model: Model, **given: Any) -> None:
        """Write the model as the XGBoost flavor does, and name the other loader."""
        mlflow.xgboost.save_model(path=path, mlflow_model=mlflow_model, code_paths=[category_codes.__file__], **given)
        mlflow_model.flavors[mlflow.pyfunc.FLAVOR_NAME][mlflow.pyfunc.MAIN] = Path(category_codes.__file__).stem
        mlflow_model.save(str(Path(path) / MLMODEL_FILE_NAME))


def cut(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags, shortened so that every store accepts them."""
    return {name: str(value)[:_MAX_TAG] for name, value in tags.items()}


def now() -> int:
    """Return the current time in MLflow's unit: milliseconds since 1970."""
    return int(time.time() * 1000)


def _type_of(example: pd.DataFrame, name: str, levels: Mapping[str, object]) -> str:
    """Return MLflow's type of a column."""
    kinds = {"int64": "long", "float64": "double", "bool": "boolean", "object": "boolean"}
    return "string" if name in levels else kinds[str(example[name].dtype)]


def _serving_requirements() -> list[str]:
    versions = package_versions()
    return [f"{name}=={versions[name]}" for name in ("mlflow", "numpy", "pandas", "xgboost-cpu")]
