"""What is known of a trial and of a search once they are over, as plain values.

What belongs here: the records that search, tracking store, pictures and refit share. What does not: making them
(`search`), keeping them (`tracking`), showing them (`plots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlops_assets.training.space import Point

TrialState = Literal["finished", "pruned", "failed"]


@dataclass(frozen=True)
class TrialRecord:
    """One trial that is over.

    Attributes:
        number: Its number, in the order of proposal.
        point: What was tried.
        state: `finished` with a value that counts; `pruned` when it was given up as hopeless, and can't be the best;
            `failed` with an error, also when it was lost with its worker process or its executor.
        value: The objective on the validation rows, in its own direction; of a pruned trial the best it had come to;
            None when the trial failed.
        loss: The same as hyperopt minimizes it.
        seconds: Time in the worker.
        rounds: Trees of the model that has this value: fitting the point with so many gives it again; 0 when the
            trial failed.
        curve: The objective after so many trees, as (trees, value), trees ascending; empty when it was not watched.
        error: Why it failed, empty otherwise.
        resumed_from: MLflow run from which an earlier, unfinished search's result was taken; empty otherwise.
    """

    number: int
    point: Point
    state: TrialState
    value: float | None
    loss: float | None
    seconds: float
    rounds: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    error: str = ""
    resumed_from: str = ""


@dataclass(frozen=True)
class SearchResult:
    """A search that is over.

    Attributes:
        trials: All trials: first those taken over from an earlier, unfinished search, by number, then this run's in
            the order in which they ended.
        best: The finished trial with the smallest loss; of equals the one proposed first.
        parallelism: Trials in flight at most.
        seconds: Wall time of this run.
        end_reason: Why it ended, in words.
        threads: Threads of each fit.
        notes: What the user should know of how it was run, such as a parallelism that the cluster can't hold.
    """

    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    parallelism: int
    seconds: float
    end_reason: str
    threads: int = 1
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return how many trials there were, by how they ended; those taken over from an earlier search count too."""
        states = [trial.state for trial in self.trials]
        return {
            "trials": len(states),
            "trials_finished": states.count("finished"),
            "trials_pruned": states.count("pruned"),
            "trials_failed": states.count("failed"),
            "trials_resumed": sum(bool(trial.resumed_from) for trial in self.trials),
        }
