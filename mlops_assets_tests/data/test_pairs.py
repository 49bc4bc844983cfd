"""A rule that is said twice stands in `x.py`, on plain values, and in `x_frames.py`, as Spark column expressions."""

from __future__ import annotations

import ast
from pathlib import Path

import mlops_assets.data

ROOM = Path(mlops_assets.data.__file__).parent


def imports_pyspark(path: Path) -> bool:
    """Return whether a module imports pyspark anywhere, for type checking too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.partition(".")[0] == "pyspark" for name in names):
            return True
    return False


def broken_pairs(room: Path) -> list[str]:
    """Return what breaks the rule, one line per module."""
    broken: list[str] = []
    for frames in sorted(room.rglob("*_frames.py")):
        plain = frames.with_name(frames.name.replace("_frames.py", ".py"))
        if not plain.exists():
            broken.append(f"{frames.name} has no {plain.name}")
        elif imports_pyspark(plain):
            broken.append(f"{plain.name} imports pyspark")
        if not imports_pyspark(frames):
            broken.append(f"{frames.name} has nothing of Spark")
    return broken


def test_every_module_of_frames_has_a_plain_partner():
    assert len(list(ROOM.rglob("*_frames.py"))) >= 5
    assert broken_pairs(ROOM) == []


def test_broken_pairs_are_noticed(tmp_path: Path):
    spark = "from pyspark.sql import functions as F\n"
    (tmp_path / "alone_frames.py").write_text(spark)
    (tmp_path / "cut.py").write_text("import numpy\n\n\ndef late():\n    import pyspark.sql\n")
    (tmp_path / "cut_frames.py").write_text(spark)
    (tmp_path / "age.py").write_text("import pyarrow\n")
    (tmp_path / "age_frames.py").write_text("import pyarrow\n")

    assert broken_pairs(tmp_path) == [
        "age_frames.py has nothing of Spark",
        "alone_frames.py has no alone.py",
        "cut.py imports pyspark",
    ]
