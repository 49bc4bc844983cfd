"""Versions of the registered model: who may become champion, and why. Knows no Dagster.

What belongs here: registering, verifying, the promotion rule, aliases, and what versions are pinned to. What does not:
fitting a model (`training`), runs and artifacts (`tracking`).
"""
