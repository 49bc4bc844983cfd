"""The checks of `doctor`: Java, versions, settings, the workspace.

What belongs here: checks that return findings. What does not: printing them (`cli`), running them (`automation`).
"""
