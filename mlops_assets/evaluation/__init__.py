"""Scores in, figures out: metrics, intervals, thresholds, explanations. Knows no trainer and no MLflow.

What belongs here: whatever needs scores, labels, amounts and days alone. What does not: fitting a model (`training`).
"""
