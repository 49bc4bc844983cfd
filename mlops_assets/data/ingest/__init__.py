"""Incoming rows: staged, judged as a load, merged by key, set aside.

What belongs here: decisions on Arrow tables and on the records of a load. What does not: commits (`lakehouse`).
"""
