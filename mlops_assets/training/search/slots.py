"""How many trials run in parallel, and with how many threads: chosen from the cluster's actual slots.

What belongs here: reading the cluster's slots and choosing from them. What does not: running trials (`spark_trials`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hyperopt import SparkTrials
from py4j.protocol import Py4JError  # type: ignore[import-untyped]

if TYPE_CHECKING:
    from pyspark import SparkContext
    from pyspark.sql import SparkSession

    from mlops_assets.training.plan import SearchPlan

# If all trials are in flight at once, TPE has no results to learn from and becomes random search.
TRIALS_PER_SLOT = 4


@dataclass(frozen=True)
class Slots:
    """The part of the cluster that a search uses.

    Attributes:
        parallelism: Trials in flight.
        threads: Threads of one fit.
        notes: Notes for the user on this choice.
    """

    parallelism: int
    threads: int
    notes: tuple[str, ...]


def choose_slots(spark: SparkSession, plan: SearchPlan) -> Slots:
    """Choose parallelism and threads; values that the user set are kept, with a note where they do not fit."""
    context = spark.sparkContext
    cpus = int(str(context.getConf().get("spark.task.cpus", "1")))
    return fit_slots(plan, count_slots(context, cpus), cpus)


def fit_slots(plan: SearchPlan, slots: int, cpus: int) -> Slots:
    """Choose parallelism and threads for a number of task slots with `cpus` CPUs each."""
    notes = []
    trials = 1 if plan.space.is_one_point else plan.trials
    learning = max(1, trials // TRIALS_PER_SLOT)
    # hyperopt's SparkTrials limits the number of concurrent jobs.
    wanted = plan.parallelism or min(slots, learning)
    parallelism = min(wanted, SparkTrials.MAX_CONCURRENT_JOBS_ALLOWED)
    if parallelism < wanted:
        notes.append(f"parallelism {wanted} is capped at {parallelism}, the limit of SparkTrials")
    if parallelism > slots:
        notes.append(
            f"parallelism {parallelism} is above the cluster's {slots} task slots: the extra trials wait, "
            "and are proposed before earlier results are known"
        )
    if parallelism > learning:
        notes.append(
            f"parallelism {parallelism} is above a quarter of the {trials} trials: TPE sees few results before it "
            "proposes the next point, so it is close to random search"
        )
    if not plan.parallelism and slots > learning and trials > 1:
        notes.append(
            f"{slots - learning} of the cluster's {slots} task slots stay idle: parallelism is limited to a quarter "
            f"of the {trials} trials, so that TPE learns from results; more trials would use them"
        )
    threads = plan.threads or cpus
    if threads != cpus:
        notes.append(
            f"{threads} threads per fit, but a Spark task has {cpus} CPUs (spark.task.cpus): "
            + ("fits compete for cores" if threads > cpus else "cores stay idle")
        )
    return Slots(parallelism, threads, tuple(notes))


def count_slots(context: SparkContext, cpus: int) -> int:
    """Return how many tasks the cluster runs at once, at least 1.

    Args:
        context: The Spark context of the cluster.
        cpus: CPUs of one task.
    """
    scala = context._jsc.sc()  # noqa: SLF001 - PySpark has no public way to count slots
    try:
        # Spark admits barrier stages by this number: it is exact even if an executor's cores are not a multiple of a
        # task's CPUs, and it does not depend on spark.default.parallelism.
        profile = scala.resourceProfileManager().defaultResourceProfile()
        return max(1, int(scala.maxNumConcurrentTasks(profile)))
    except Py4JError:  # a Spark without this internal method: count the cores, as SparkTrials does
        return max(1, context.defaultParallelism // cpus)
