"""The error that a user of the workspace is meant to read.

What belongs here: that one class. What does not: errors of API calls (`wire.ApiError`).
"""


class LoopbackError(Exception):
    """A problem of this machine or of the arguments; its text is complete without a traceback.

    Args:
        what: What is wrong.
        where: The machine, folder or argument it was found in.
        fix: What to do about it.
    """

    def __init__(self, what: str, *, where: str, fix: str) -> None:
        self.what, self.where, self.fix = what, where, fix
        super().__init__(f"{what} [{where}] Fix: {fix}")
