"""Attacks of strangers, each with what stops it: SECURITY.md says which belongs to whom."""
