"""The first look at a real workspace: what no test can show is tried once, by one small task, and reported.

What belongs here: what is asked of a workspace, and how its answers are judged. What does not: running it (`errand`),
printing it (`cli`).
"""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

from mlops_assets.databricks.libraries import cluster_pins
from mlops_assets.databricks.preflight import Finding
from mlops_assets.diagnostics.errand import run_errand
from mlops_assets.errors import LaunchError, SettingsError
from mlops_assets.tracking.error_codes import EXISTS, MISSING

if TYPE_CHECKING:
    from mlops_assets.databricks.profile import DatabricksProfile

CHECKS: Final = ("runtime", "packages", "texts", "staging", "workers", "table", "notes", "registry", "billing")
USAGE: Final = "system.billing.usage"
_TEXT: Final = 'it\'s "quoted" `twice`\nand has $two lines'


def first_run(profile: DatabricksProfile, credentials: Mapping[str, str], *, usage: str = USAGE) -> Iterator[Finding]:
    """Run the checks on the profile's cluster of loaders and yield what they found.

    It starts one cluster, and creates and drops two tables and one registered model of names that nobody has.

    Args:
        profile: The Databricks environment.
        credentials: By the names of databricks-sdk; if empty, the SDK looks for them.
        usage: Name of the table of billed usage.
    """
    runtime = profile.clusters.loader.databricks_runtime
    name = f"mlops_first_run_{uuid.uuid4().hex[:8]}"
    by_name = profile.tables == "catalog"
    serverless = profile.clusters.loader.compute == "serverless"
    checks = tuple(check for check in CHECKS if check != "workers" or not serverless)  # it has no SparkContext
    request = {
        "checks": checks,
        "packages": {**runtime.packages, **cluster_pins(runtime)},
        "text": _TEXT,
        "text_sha256": hashlib.sha256(_TEXT.encode()).hexdigest(),
        "table": profile.three_level(name) if by_name else f"delta.`{profile.table_root}/{name}`",
        "model": profile.three_level(name) if profile.registry_uri == "databricks-uc" else name,
        "tracking_uri": profile.tracking_uri,
        "registry_uri": profile.registry_uri,
        "exists": sorted(EXISTS),
        "missing": sorted(MISSING),
        "usage": usage,
    }
    try:
        answers = run_errand(profile, credentials, "mlops_first_run", request)
    except (LaunchError, SettingsError) as error:
        yield Finding("error", "first run", f"{error.what} [{error.where}]; {error.fix}")
        return
    yield Finding("ok", "first run", f"{answers['seconds']} s from the submission to the end: {answers['run']}")
    for check in checks:
        answer = answers["checks"][check]
        yield Finding(answer["level"], check, answer["text"])
    seen = answers["seen_after_s"]
    text = "its file was read only after its end" if seen is None else f"a file could be read after {seen} s"
    yield Finding("ok", "delay of staging", text)
