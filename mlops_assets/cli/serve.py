"""`mlops serve`: answer over HTTP with the champion of the registry.

What belongs here: which models, which folders, what is printed. What does not: serving (`serving`), a file (`score`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mlops_assets.cli.registry import open_source
from mlops_assets.serving.app import ModelPlace
from mlops_assets.serving.following import Follower
from mlops_assets.serving.from_registry import example_rows
from mlops_assets.serving.server import Served, serve
from mlops_assets.spec import INFERENCE_LOG

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.settings import ServingSettings
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec


def run_serve(settings: Settings, specs: Sequence[FraudModelSpec], serving: ServingSettings) -> int:
    """Serve models until Ctrl-C, and return the exit code.

    Raises:
        TrackingError: The registry can't be reached, or a model has no champion.
        SettingsError: The port is in use.
    """
    home = settings.home / "serving"
    models = []
    for spec in specs:
        source = open_source(settings, spec)
        folder = home / source.registered
        place = ModelPlace(spec.title, source.registered, spec.contract.to_yaml(), str(folder))
        follower = Follower(source, folder, (serving.shadow, serving.canary), serving.version_numbers)
        sink = serving.log or _written_to(spec) or f"delta:{settings.lakehouse_root / spec.database / INFERENCE_LOG}"
        models.append(Served(place, follower, sink))
    sys.stdout.write(curl_line(specs[0].contract, serving))
    return serve(models, serving, home)


def _written_to(spec: FraudModelSpec) -> str:
    """Return where the model's asset `inference_log` reads, if this server can write there."""
    found = spec.inference_log or ""
    return found if found.startswith(("kafka:", "delta:")) else ""


def curl_line(contract: Contract, serving: ServingSettings) -> str:
    """Return a request to try, as a line for a shell."""
    key = ' -H "Authorization: Bearer $KEY"' if serving.keys else ""
    body = json.dumps(example_event(contract))
    address = f"http://{serving.host}:{serving.port}/v1/score"
    return f"try:  curl -s {address}{key} -H 'Content-Type: application/json' -d '{body}'\n"


def example_event(contract: Contract) -> dict[str, Any]:
    """Return an event that the contract accepts."""
    values = example_rows(contract, {}, 1)[0]
    features: dict[str, Any] = {}
    for name, value in zip(contract.features, values.tolist(), strict=True):
        column = contract.column(name)
        if column.type == "string":
            features[name] = "example"
        elif value != value:  # noqa: PLR0124 - NaN, which JSON does not have
            features[name] = None
        elif column.type == "boolean":
            features[name] = bool(value)
        elif column.type == "long":
            features[name] = int(value)
        else:
            features[name] = round(value, 2)
    timed = contract.column(contract.event_time).type == "timestamp"
    event: dict[str, Any] = {"event_id": "e-1", "event_time": "2026-11-01T12:00:00Z" if timed else 1.0}
    if contract.entity is not None:
        event["entity"] = "example" if contract.column(contract.entity).type == "string" else 7
    return {**event, "features": features}
