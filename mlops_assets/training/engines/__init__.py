"""Where a model is fitted: in one worker's memory, or over the whole cluster.

What belongs here: the two engines and the choice between them. What does not: proposing points (`search`).
"""
