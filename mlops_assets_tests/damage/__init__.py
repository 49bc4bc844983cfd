"""Damage on disk, of every kind: each is noticed, or does no harm."""
