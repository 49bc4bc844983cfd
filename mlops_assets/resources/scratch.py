"""A folder for the temporary files of this process's Spark, and the end of those that killed processes have left.

What belongs here: naming the folder, and removing others. What does not: what Spark writes there.

Spark removes its temporary files when its JVM ends in order. After a kill some 30 MB stay, so each process has a folder
that names it, and the next one removes those of processes that are gone.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from mlops_assets.processes import has_died, this_process


def own_scratch(root: Path) -> Path:
    """Create this process's folder below a root, and remove those of processes of this machine that have died.

    Raises:
        OSError: The folder can't be written.
    """
    root.mkdir(parents=True, exist_ok=True)
    for folder in root.iterdir():
        if has_died(folder.name.replace("=", ":")):
            shutil.rmtree(folder, ignore_errors=True)
    own = root / this_process().replace(":", "=")
    own.mkdir(exist_ok=True)
    return own
