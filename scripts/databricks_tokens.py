"""A detector of Databricks' personal access tokens for detect-secrets, which brings none.

What belongs here: that one pattern. How the scan is run is in `scan_secrets.sh`.
"""

from __future__ import annotations

import re

from detect_secrets.plugins.base import RegexBasedDetector


class DatabricksTokenDetector(RegexBasedDetector):
    """Finds `dapi` with 32 hexadecimal digits, quoted or not."""

    secret_type = "Databricks Token"  # noqa: S105 # pragma: allowlist secret
    denylist = (re.compile(r"\bdapi[0-9a-f]{32}\b"),)
