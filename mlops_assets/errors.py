"""The errors that a user of the platform is meant to read.

What belongs here: error classes raised on purpose, each saying what is wrong, where, and how to fix it.
What does not: errors of libraries (translate them where they are caught), and anything that knows Dagster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mlops_assets.foreign_text import printable


class PlatformError(Exception):
    """A problem that the user can fix; its text is complete without a traceback.

    Args:
        what: What is wrong, with the offending names and counts.
        where: The file, table, column, URL or setting it was found in.
        fix: What to do about it.
        diff: A Markdown table of what was expected and what is there, if there is one; shown beside the text.
        transient: Whether the same call may succeed later although nobody has changed anything: a server that does not
            answer, a lock that another run holds, a cloud without capacity. What it is part of is tried again.
    """

    def __init__(self, what: str, *, where: str, fix: str, diff: str = "", transient: bool = False) -> None:
        # They name files and columns of strangers, and are shown in terminals.
        self.what, self.where, self.fix = printable(what), printable(where), printable(fix)
        self.diff, self.transient = diff, transient
        super().__init__(f"{self.what} [{self.where}] Fix: {self.fix}")

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the keyword arguments when the error crosses a process (multiprocess executor, step launcher)."""
        return (_rebuild, (type(self), self.what, self.where, self.fix, self.diff, self.transient))


def _rebuild(
    cls: type[PlatformError], what: str, where: str, fix: str, diff: str, transient: bool = False
) -> PlatformError:
    return cls(what, where=where, fix=fix, diff=diff, transient=transient)


def are_transient(errors: Sequence[PlatformError]) -> bool:
    """Return whether there are errors, and all of them are transient."""
    return bool(errors) and all(error.transient for error in errors)


class ContractError(PlatformError):
    """A data contract that can't be read, or contradicts itself."""


class SourceError(PlatformError):
    """Input that can't be fetched or read as a table: missing, empty, unreachable or corrupt."""


class UnreachableError(SourceError):
    """Input that can't be reached now or with these permissions; the input itself may be fine."""


class SchemaMismatchError(PlatformError):
    """Input columns that differ from the contract's."""


class SplitError(PlatformError):
    """A table that can't be cut into train, validation and test sets as requested."""


class LeakError(PlatformError):
    """A feature that gives the target away."""


class SearchError(PlatformError):
    """A search that ended without a usable trial."""


class EvaluationError(PlatformError):
    """Scores and labels on which a metric or a threshold is not defined."""


class StorageError(PlatformError):
    """A folder, table or artifact store that can't be written or read."""

    @classmethod
    def not_writable(cls, folder: object, error: OSError) -> StorageError:
        """Return the error for a folder below MLOPS_HOME that can't be written."""
        what = f"folder can't be written: {error.strerror}"
        return cls(what, where=str(folder), fix="set MLOPS_HOME to a writable folder")


class TrackingError(PlatformError):
    """An MLflow store that can't be reached, or an entry in it that is not what it should be."""


class LedgerError(PlatformError):
    """A ledger of champions that was changed, can't be read, or is being written by another process."""


class StatementError(PlatformError):
    """A statement that a SQL warehouse did not execute, or of which it is not known."""

    @property
    def condition(self) -> str:
        """Spark's error condition in its text, such as `TABLE_OR_VIEW_NOT_FOUND`; empty if there is none."""
        found = re.search(r"\[([A-Z0-9_]+)", self.what)
        return found[1] if found else ""


class RetiredError(PlatformError):
    """A model that was retired: nothing of it is trained or registered."""


class SettingsError(PlatformError):
    """A setting that is missing, misspelt or out of range."""


class LaunchError(PlatformError):
    """A step that can't be launched on Databricks, or whose launch was interrupted."""


class AutomationError(PlatformError):
    """A sensor or condition that can't continue: an unreadable cursor, a table that can't be inspected."""
