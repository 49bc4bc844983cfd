"""What `doctor` looks at: Java, versions, settings, the workspace.

What belongs here: checks that return findings. What does not: printing them (`cli`), starting them (`automation`).
"""
