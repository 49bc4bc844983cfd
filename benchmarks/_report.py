"""How every benchmark reports: ratios on the screen, and everything in `<home>/bench/<name>.json`.

What belongs here: the form of a report. What does not: measuring, which each benchmark does in its own way.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import Any

from mlops_assets.settings import Settings


def report(name: str, *, ratios: Mapping[str, Sequence[float]], details: Mapping[str, Any]) -> None:
    """Print the ratios of a benchmark, median and spread, and write its JSON file.

    Args:
        name: The benchmark's module name.
        ratios: The benchmark's results, each as "how many times" under a name that can be read on its own: one value
            per round, each measured side by side. The first is the benchmark's `ratio` in the file.
        details: The measured values behind the ratios, with their units in the names; must be JSON-serializable.

    Raises:
        SettingsError: A setting is invalid.
        ValueError: There is no ratio.
    """
    spreads = {
        label: {"ratio": median(rounds), "low": min(rounds), "high": max(rounds), "rounds": len(rounds)}
        for label, rounds in ratios.items()
    }
    if not spreads:
        raise ValueError(f"benchmark {name} measured no ratio")
    path = Settings.from_environment().home / "bench" / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "name": name,
        **next(iter(spreads.values())),
        "ratios": spreads,
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform(), "python": platform.python_version()},
        "details": dict(details),
    }
    path.write_text(json.dumps(document, indent=2) + "\n", "utf-8")
    for label, spread in spreads.items():
        print(f"{spread['ratio']:8.2f} x  [{spread['low']:.2f} to {spread['high']:.2f}]  {label}")
    print(f"written: {path}")
