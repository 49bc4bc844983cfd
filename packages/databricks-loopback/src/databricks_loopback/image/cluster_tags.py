"""Tags of tables: `ALTER TABLE ... SET TAGS`, which open-source Spark can't parse.

What belongs here: taking the statement before Spark sees it, and noting the tags in the metastore's folder. What does
not: reading them (`Workspace.table_tags`), tags of anything but tables.

Rules: "Apply tags to Unity Catalog securable objects" of the Databricks reference.
"""

from __future__ import annotations

import functools
import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

_NOTES = Path("/databricks/metastore")
_STATEMENT = re.compile(r"\s*ALTER\s+TABLE\s+(\S+)\s+SET\s+TAGS\s*\((.*)\)\s*", re.IGNORECASE | re.DOTALL)
_TAG = re.compile(r"\s*'([^']*)'\s*=\s*'([^']*)'\s*(?:,|$)")
_NOT_IN_KEYS = frozenset(".,-=/:")
_LONGEST_KEY, _LONGEST_VALUE = 255, 1000


def take(module: ModuleType) -> None:
    """Make the sessions of a module, just imported, understand the statement."""
    kind: Any = vars(module)["SparkSession"]
    run = kind.sql

    @functools.wraps(run)
    def sql(session: Any, query: str, *arguments: Any, **named: Any) -> Any:
        match = _STATEMENT.fullmatch(query) if isinstance(query, str) and _NOTES.is_dir() else None
        if match is None:
            return run(session, query, *arguments, **named)
        table, tags = match[1].replace("`", ""), dict(_TAG.findall(match[2]))
        for key, value in tags.items():
            if _NOT_IN_KEYS & set(key) or not 1 <= len(key) <= _LONGEST_KEY or len(value) > _LONGEST_VALUE:
                raise import_module("pyspark.errors").AnalysisException(
                    f"[INVALID_PARAMETER_VALUE] Tag key or value of {key!r} is invalid."
                )
        run(session, f"DESCRIBE TABLE {match[1]}")  # it must exist
        with (_NOTES / "tags.jsonl").open("a", encoding="utf-8") as notes:
            notes.write(json.dumps({"table": table, "tags": tags}) + "\n")
        return run(session, "SELECT 1 WHERE FALSE")

    kind.sql = sql
