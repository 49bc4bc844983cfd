"""The search: proposals, trials as Spark tasks, stopping rules, resuming, progress.

What belongs here: how points are tried. What does not: how rows reach a worker's model (`engines`), the refit.
"""
