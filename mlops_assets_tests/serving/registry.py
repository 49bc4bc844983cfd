"""An embedded MLflow registry with versions of a small model, made without Spark."""

from __future__ import annotations

import json
from pathlib import Path

import xgboost as xgb

from mlops_assets.cli.registry import open_source
from mlops_assets.lineage import (
    DATABASE_TAG,
    EVALUATION_FILE,
    MODEL_URI_TAG,
    SPLIT_ID_TAG,
    TEST_VERSION_TAG,
)
from mlops_assets.registry.versions import CHAMPION, Version, register_once, set_alias
from mlops_assets.serving.from_registry import Source
from mlops_assets.settings import Settings
from mlops_assets.spec import FraudModelSpec
from mlops_assets.tracking.category_codes import LEVELS as LEVELS_KEY
from mlops_assets.training.categories import to_frame
from mlops_assets_tests.serving.kit import CONTRACT, LEVELS, booster, rows


class Registry:
    """Versions of a model below a home.

    Args:
        home: The home; its store is made if it is not there.
    """

    def __init__(self, home: Path) -> None:
        path = home / "payments.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(CONTRACT)
        self.settings = Settings(home=home, contract=str(path), source="synthetic")
        self.spec: FraudModelSpec = self.settings.spec()
        self.source: Source = open_source(self.settings, self.spec)

    def register(self, number: int, *, threshold: float = 0.5, alias: str = CHAMPION) -> xgb.Booster:
        """Register a booster that depends on a number, and give it an alias; return it."""
        store, made = self.source.store, booster(number)
        made.set_attr(**{LEVELS_KEY: json.dumps(LEVELS)})
        with store.open_run("search", {DATABASE_TAG: "d", SPLIT_ID_TAG: "s", TEST_VERSION_TAG: "0"}) as run:
            example = to_frame(rows(2), made.feature_names or [], LEVELS)
            uri = run.log_model(made, example, {})
            chosen = {"value": threshold, "rule": "cost", "setting": 1.0, "alerts": 1, "rows": 10}
            report = json.dumps({"threshold": chosen, "metrics": {}}).encode()
            folder, _, name = EVALUATION_FILE.rpartition("/")
            run.log_files({name: report}, folder)
            run.log(tags={MODEL_URI_TAG: uri})
        version = register_once(store, self.source.registered, run.run_id, uri)
        self.point(version.number, alias)
        return made

    def point(self, number: int, alias: str = CHAMPION) -> None:
        """Point an alias at a version."""
        set_alias(self.source.store, Version(self.source.registered, number, ""), alias)
