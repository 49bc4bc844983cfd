"""The command line.

What belongs here: arguments, printed output, exit codes. What does not: the work itself.
"""
