"""Fraud-model data and model assets on Dagster; start at `mlops_assets.definitions`."""

from typing import Any

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # `dg` looks for components here. Importing it right away would cost every command Dagster's import.
    if name == "FraudModelComponent":
        from mlops_assets.fraud_model.component import FraudModelComponent  # noqa: PLC0415 - see above

        return FraudModelComponent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), "FraudModelComponent"]
