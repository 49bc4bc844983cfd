"""The search: proposals, trials as Spark tasks, stopping rules, resuming, progress.

What belongs here: running trials. What does not: the choice of the engine (`engines`), the refit.
"""
