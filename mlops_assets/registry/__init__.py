"""Versions of the registered model: which one becomes champion, and why. Dagster-free.

What belongs here: registering, verifying, the promotion rule, aliases, pinned tables. What does not: fitting a
model (`training`), runs and artifacts (`tracking`).
"""
