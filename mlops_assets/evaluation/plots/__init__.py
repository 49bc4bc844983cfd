"""Pictures of an evaluation, as PNG.

What belongs here: drawing what was computed elsewhere. What does not: computing it, and where a picture is kept.
"""
