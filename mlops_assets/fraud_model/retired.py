"""How automation on the launching side learns that a model is retired.

What belongs here: asking the registry of a deployment. What does not: the mark (`registry/retirement`), who asks
(`automation`).
"""

from __future__ import annotations

import logging
from functools import cache

from mlops_assets.automation.retired import Retired
from mlops_assets.deployment import Deployment
from mlops_assets.errors import PlatformError
from mlops_assets.fraud_model.shared import build_resources
from mlops_assets.resources.tracking import Tracking
from mlops_assets.spec import FraudModelSpec

logger = logging.getLogger(__name__)


def retired(spec: FraudModelSpec, deployment: Deployment) -> Retired:
    """Return a function that says why nothing of a model may start, or nothing.

    If the registry can't be reached from here, the model counts as active: training and registration ask again where
    they run.
    """

    @cache
    def tracking() -> Tracking:
        made: Tracking = build_resources(deployment)["tracking"]
        return made

    def ask() -> str:
        try:
            since = tracking().retired_since(spec)
        except PlatformError as error:
            logger.warning("whether model %s is retired can't be read: %s", spec.title, error)
            return ""
        return f"model {spec.title} was retired on {since}; `mlops retire --undo` brings it back" if since else ""

    return ask
