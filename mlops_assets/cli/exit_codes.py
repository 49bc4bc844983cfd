"""The exit codes of `mlops`, which scripts and `make` rely on.

What belongs here: the numbers. What does not: which command ends with which (`main` lists them for the user).
"""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2  # argparse's own for a wrong command line
INTERRUPTED: Final = 130  # what shells make of Ctrl-C
