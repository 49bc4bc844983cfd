"""Which kinds of tables a test of this room runs on: in folders, by name, or both.

What belongs here: the marks that give the fixture `lakehouse` its parameter. What does not: the fixture (`conftest`).
"""

from __future__ import annotations

import pytest

FOLDER, NAME = "by folder", "by name"
# A commit means the same in each kind.
BOTH_KINDS = pytest.mark.parametrize("lakehouse", [FOLDER, NAME], indirect=True)
# The way of the commit by name is that of a test with `BOTH_KINDS`; what is asserted here comes before or after it.
FOLDER_FIRST = pytest.mark.parametrize(
    "lakehouse", [FOLDER, pytest.param(NAME, marks=pytest.mark.proof)], indirect=True
)
