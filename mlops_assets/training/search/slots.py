"""How many trials run at once, and with how many threads each: from what the cluster really has.

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

# With as many trials in flight as there are trials, TPE has nothing to learn from and is random search.
TRIALS_PER_SLOT = 4


@dataclass(frozen=True)
class Slots:
    """What a search may use.

    Attributes:
        parallelism: Trials in flight.
        threads: Threads of one fit.
        notes: What the user should know of it.
    """

    parallelism: int
    threads: int
    notes: tuple[str, ...]


def choose_slots(spark: SparkSession, plan: SearchPlan) -> Slots:
    """Choose parallelism and threads; what the user set is kept, and gets a note where it does not fit."""
    context = spark.sparkContext
    cpus = int(str(context.getConf().get("spark.task.cpus", "1")))
    return fit_slots(plan, count_slots(context, cpus), cpus)


def fit_slots(plan: SearchPlan, slots: int, cpus: int) -> Slots:
    """Choose parallelism and threads for so many task slots of so many CPUs each."""
    notes = []
    trials = 1 if plan.space.is_one_point else plan.trials
    learning = max(1, trials // TRIALS_PER_SLOT)
    # hyperopt's SparkTrials runs no more than this many jobs at once.
    wanted = plan.parallelism or min(slots, learning)
    parallelism = min(wanted, SparkTrials.MAX_CONCURRENT_JOBS_ALLOWED)
    if parallelism < wanted:
        notes.append(f"parallelism {wanted} is capped at {parallelism}, the most that SparkTrials runs")
    if parallelism > slots:
        notes.append(
            f"parallelism {parallelism} is above the cluster's {slots} task slots: the trials beyond them wait, "
            "proposed from less than could be known by the time they start"
        )
    if parallelism > learning:
        notes.append(
            f"parallelism {parallelism} is above a quarter of the {trials} trials: TPE sees few results before it "
            "proposes the next, and comes close to random search"
        )
    if not plan.parallelism and slots > learning and trials > 1:
        notes.append(
            f"{slots - learning} of the cluster's {slots} task slots stay idle: parallelism is kept at a quarter of "
            f"the {trials} trials, so that TPE learns from results; more trials would use them"
        )
    threads = plan.threads or cpus
    if threads != cpus:
        notes.append(
            f"{threads} threads per fit, while a Spark task has {cpus} CPUs (spark.task.cpus): "
            + ("fits fight for cores" if threads > cpus else "cores stay idle")
        )
    return Slots(parallelism, threads, tuple(notes))


def count_slots(context: SparkContext, cpus: int) -> int:
    """Return how many tasks the cluster runs at once, at least 1.

    Args:
        context: The cluster's.
        cpus: CPUs of one task.
    """
    scala = context._jsc.sc()  # noqa: SLF001 - PySpark hides it, and has nothing of its own that counts slots
    try:
        # What barrier stages are admitted by: exact for executors whose cores are no multiple of a task's CPUs, and
        # whatever spark.default.parallelism says.
        profile = scala.resourceProfileManager().defaultResourceProfile()
        return max(1, int(scala.maxNumConcurrentTasks(profile)))
    except Py4JError:  # a Spark without this internal method: count the cores, as SparkTrials does
        return max(1, context.defaultParallelism // cpus)
