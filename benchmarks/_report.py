"""The one way in which a benchmark reports: ratios on the screen, and everything in `<home>/bench/<name>.json`.

What belongs here: that form. What does not: measuring, which each benchmark does in its own way.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from mlops_assets.settings import Settings


def report(name: str, *, ratios: Mapping[str, float], details: Mapping[str, Any]) -> None:
    """Print the ratios of a benchmark and write its JSON file.

    Args:
        name: The benchmark's module name.
        ratios: What the benchmark is for, each as "how many times", named so that it reads on its own.
        details: The measured values (with their units in the names) from which the ratios come; must fit into JSON.

    Raises:
        SettingsError: A setting can't be used.
    """
    path = Settings.from_environment().home / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "benchmark": name,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "ratios": dict(ratios),
        "details": dict(details),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    for label, ratio in ratios.items():
        print(f"{ratio:8.2f} x  {label}")
    print(f"written: {path}")
