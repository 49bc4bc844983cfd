"""The results of finished trials and searches, as plain values.

What belongs here: the records that search, tracking store, plots and refit share. What does not: creating them
(`search`), storing them (`tracking`), drawing them (`plots`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from mlops_assets.training.space import Point

TrialState = Literal["finished", "screened", "pruned", "failed"]


@dataclass(frozen=True)
class FoldRecord:
    """A trial's result on one of several folds.

    Attributes:
        value: The objective on the fold's validation rows, in its own direction.
        rounds: Trees of the model that has this value.
        curve: The objective by number of trees, as (trees, value); empty when it was not watched.
    """

    value: float
    rounds: int
    curve: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True)
class TrialRecord:
    """One trial that has ended.

    Attributes:
        number: Its number, in the order of proposal.
        point: The hyperparameters.
        state: `finished` with a value that counts; `screened` with one on a sample of the training rows, so it can't be
            the best; `pruned` when it was stopped as hopeless, so it can't be the best;
            `failed` with an error, also when its worker process or its executor died.
        value: The objective on the validation rows, in its own direction; the best so far for a pruned trial; the mean
            over the folds, where there are several; None when the trial failed.
        loss: The same value as hyperopt minimizes it; for a trial pruned before its last fold, what the mean over all
            folds would probably be.
        seconds: Time in the worker.
        rounds: Trees of the model that has this value: fitting the point with this many trees reproduces it; of the
            newest fold, where there are several; 0 when the trial failed.
        curve: The objective by number of trees, as (trees, value), trees ascending; empty when it was not watched.
        folds: The results by fold, newest first; fewer than the search has for a pruned trial. Empty where the search
            has one fold only, whose results are the fields above.
        share: Share of the genuine training rows that it was fitted on; below 1, its value can be compared only with
            those of the same share.
        error: Why it failed, empty otherwise.
        resumed_from: MLflow run of the earlier, unfinished search that this result comes from; empty otherwise.
    """

    number: int
    point: Point
    state: TrialState
    value: float | None
    loss: float | None
    seconds: float
    rounds: int = 0
    curve: tuple[tuple[int, float], ...] = ()
    folds: tuple[FoldRecord, ...] = ()
    share: float = 1.0
    error: str = ""
    resumed_from: str = ""


@dataclass(frozen=True)
class SearchResult:
    """A search that has ended.

    Attributes:
        trials: All trials: first those resumed from an earlier, unfinished search, by number, then this run's in the
            order in which they ended.
        best: The finished trial with the smallest loss; on a tie the one proposed first.
        parallelism: Most trials in flight.
        seconds: Wall time of this run.
        end_reason: Why it ended, as text.
        threads: Threads of each fit.
        older_rows: Training rows of each fold before the newest, newest first.
        notes: Notes for the user on how it ran, such as a parallelism that the cluster can't hold.
    """

    trials: tuple[TrialRecord, ...]
    best: TrialRecord
    parallelism: int
    seconds: float
    end_reason: str
    threads: int = 1
    older_rows: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Return the number of trials by state; trials resumed from an earlier search count too."""
        states = [trial.state for trial in self.trials]
        return {
            "trials": len(states),
            "trials_finished": states.count("finished"),
            "trials_screened": states.count("screened"),
            "trials_pruned": states.count("pruned"),
            "trials_failed": states.count("failed"),
            "trials_resumed": sum(bool(trial.resumed_from) for trial in self.trials),
        }
