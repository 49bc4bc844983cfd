"""Cutting sets in time or by seed, and looking back as of a moment.

What belongs here: where the cuts are and what a set must be like. What does not: the tables of the sets (`lakehouse`).
"""
