"""The exit codes of `mlops`; scripts and `make` rely on them.

What belongs here: the numbers. What does not: which command returns which (`main` lists them for the user).
"""

from __future__ import annotations

from typing import Final

DONE: Final = 0
FAILED: Final = 1
REFUSED: Final = 2  # the same as argparse's for a wrong command line
INTERRUPTED: Final = 130  # the shell convention for Ctrl-C
