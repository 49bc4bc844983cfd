"""What reaches the driver: each place in the code that collects rows stands here, with the reason why it may.

A new one fails. Before it is added: does its size grow with the rows of a table? Then the work belongs on the
executors. What may grow is bytes of a judged row that an evaluation needs, and what runs where the rows fit.
"""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

import mlops_assets

PACKAGE = Path(mlops_assets.__file__).parent
OF_SPARK = {"collect", "collectAsMap", "toArrow", "toPandas", "toLocalIterator"}
COLLECTING = OF_SPARK | {"to_pyarrow_table", "to_table", "fetch"}

AGGREGATE = "one row, or one for each of a few values, that Spark has counted"
LOG = "entries of a table's log, or its description"
BOUNDED = "at most so many rows, whatever the size of the table: a preview, a sample, rows that are explained"
PER_BATCH = "a row for each input, piece of one or decision, not for each of its rows: small tables of our own"
PER_BUCKET = "buckets of keys, and the keys of the buckets that hold a cut"
ONE_ENTITY = "rows of the one customer that is erased"
JUDGED = "some bytes of each judged row: label, score, moment, amount, entity; never its features"
FITS = "only where the rows fit: the engine in memory, which is chosen by size"
ONE_PIECE = "a small input, or a piece of a large one, where it is staged"
NO_DATA = "no rows of a table: results of trials, of a look at the machines, of a made-up table"
# These still grow with rows. They are limits of what a driver can hold, not permissions.
FRAUDS = "entity and moment of each fraud: grows, at the rate of fraud"
PREDICTIONS = "rows of the log of predictions, which is read without Spark, by some columns or some of it"
SMALL_COMMIT = "a commit of few rows; of larger ones Spark writes the rows into files, which executors read"

ALLOWED = {
    "data/labels/maturity_frames.py": {"maturity_of": AGGREGATE, "_arrivals_known": AGGREGATE},
    "data/ingest/staging_frames.py": {"_on_executors": PER_BATCH},
    "data/sources/delta.py": {"DeltaCommit._rows.rows": ONE_PIECE},
    "data/splits/as_of_frames.py": {"cut_as_of": AGGREGATE, "waiting_after": AGGREGATE},
    "data/splits/split_frames.py": {"_counted": PER_BUCKET, "summarize": AGGREGATE},
    "diagnostics/consistency.py": {"_off_record": PER_BATCH},
    "diagnostics/errand_on_cluster.py": {"workers": NO_DATA, "table": NO_DATA, "query": BOUNDED, "billing": NO_DATA},
    "lakehouse/catalog_source.py": {
        "_Commit.collected": SMALL_COMMIT,
        "CatalogSource._changes": LOG,
        "CatalogSource._identity": LOG,
        "CatalogSource._history": LOG,
    },
    "lakehouse/batches.py": {"_of_transactions": PER_BATCH},
    "lakehouse/completeness.py": {"_with_rows": PER_BATCH},
    "lakehouse/erased_predictions.py": {"rows_in_log": PREDICTIONS},
    "lakehouse/erased_history.py": {"end_history": LOG, "_set": LOG},
    "lakehouse/erasure.py": {
        "Eraser.find": PER_BATCH,
        "Eraser._erase_from": ONE_ENTITY,
        "Eraser._keys": ONE_ENTITY,
    },
    "lakehouse/known_rows.py": {"without_known": PER_BATCH, "_changes": AGGREGATE, "_lost": PER_BATCH},
    "lakehouse/label_store.py": {
        "LabelStore.batches": PER_BATCH,
        "LabelStore.count": AGGREGATE,
        "LabelStore.first": BOUNDED,
    },
    "lakehouse/lakehouse.py": {
        "Lakehouse.require_files": AGGREGATE,
        "Lakehouse.commits": LOG,
        "Lakehouse.fetch": PER_BATCH,
    },
    "lakehouse/loading.py": {"_tables": BOUNDED},
    "lakehouse/maintenance.py": {"_detail": LOG, "_sum_since": LOG},
    "lakehouse/mature_rows.py": {"mature_rows": AGGREGATE},
    "lakehouse/score_table.py": {"rows_of": LOG, "append_scores": AGGREGATE},
    "lakehouse/tables.py": {
        "PathTables.fetch": PER_BATCH,
        "CatalogTables.fetch": PER_BATCH,
        "CatalogTables.counted": PER_BATCH,
        "CatalogTables.identity": LOG,
        "CatalogTables.since": LOG,
        "CatalogTables._history": LOG,
    },
    "lakehouse/transaction_tables.py": {
        "take_snapshot": PER_BATCH,
        "quarantined_rows": BOUNDED,
        "count_rows": AGGREGATE,
        "count_classes": AGGREGATE,
        "_without_record": PER_BATCH,
    },
    "lakehouse/transactions.py": {"TransactionStore.revert": PER_BATCH},
    "lakehouse/unseen_rows.py": {"with_unseen": AGGREGATE},
    "lakehouse/vacuum.py": {"_delete_removed": LOG, "_delete_unknown": LOG},
    "registry/comparison.py": {"_collected": JUDGED},
    "registry/judged_rows.py": {
        "judged_rows": FITS,
        "_collected": JUDGED,
        "OnCluster.at": BOUNDED,
        "OnCluster.drift_from": AGGREGATE,
        "OnCluster._scored": JUDGED,
        "OnCluster._levels": AGGREGATE,
    },
    "registry/registration.py": {"sampled": BOUNDED},
    "resources/class_archive.py": {"_exercise": NO_DATA},
    "registry/ledger.py": {"DeltaLedger.read": PER_BATCH},
    "serving/log/origin.py": {"LogOrigin._from_databricks": PREDICTIONS},
    "serving/log/table.py": {"LogTable._is_new": PREDICTIONS},
    "serving/replay.py": {"_sample": PREDICTIONS},
    "training/as_of_backtest.py": {"_by_day": JUDGED},
    "training/engines/cluster_memory.py": {"cluster_memory": NO_DATA},
    "training/engines/distributed_metrics.py": {"judge_scores": AGGREGATE},
    "training/engines/distributed_model.py": {
        "score_in_order": JUDGED,
        "score_in_order.rows_at": BOUNDED,
        "_frauds": FRAUDS,
    },
    "training/engines/engines.py": {"SplitTables.matrix_of": FITS, "fit_elsewhere": FITS},
    "training/engines/placed_rows.py": {"placed": AGGREGATE},
    "training/readiness.py": {
        "changed_rows": AGGREGATE,
        "_require_few_levels": AGGREGATE,
        "_require_classes_and_amounts": AGGREGATE,
        "_leaks": BOUNDED,
    },
    "training/search/spark_trials.py": {"_Slots._work": NO_DATA},
}


def collecting(source: str) -> Counter[str]:
    """Return how often each function of a module names a method that brings rows to the driver, called or not."""
    found: Counter[str] = Counter()

    def look(node: ast.AST, inside: tuple[str, ...]) -> None:
        for child in ast.iter_child_nodes(node):
            by_name = isinstance(child, ast.Attribute) and child.attr in COLLECTING
            by_text = isinstance(child, ast.Constant) and child.value in COLLECTING  # getattr(rows, "collect")
            if by_name or by_text:
                found[".".join(inside) or "<module>"] += 1
            if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                look(child, (*inside, child.name))
            else:
                look(child, inside)

    look(ast.parse(source), ())
    return found


def unexplained(package: Path, allowed: dict[str, dict[str, str]]) -> set[str]:
    """Return `<file>: <function>` where rows are collected without a reason, and where a reason is left over."""
    found = {
        f"{path.relative_to(package).as_posix()}: {function}"
        for path in package.rglob("*.py")
        for function in collecting(path.read_text("utf-8"))
    }
    known = {f"{file}: {function}" for file, functions in allowed.items() for function in functions}
    return found ^ known


def test_each_place_that_collects_rows_has_a_reason():
    assert unexplained(PACKAGE, ALLOWED) == set()


def test_a_new_place_is_noticed_and_one_that_is_gone(tmp_path: Path):
    module = tmp_path / "room" / "module.py"
    module.parent.mkdir()
    module.write_text(
        "class Table:\n"
        "    def all(self, rows):\n"
        "        return rows.where('x > 1').toPandas()\n"
        "def later(rows):\n"
        "    return map(rows.collect, [1])\n"
        "def hidden(rows):\n"
        "    return getattr(rows, 'toLocalIterator')()\n"
        "def fine(rows):\n"
        "    return rows.count()\n"
    )

    assert unexplained(tmp_path, {"room/module.py": {"gone": AGGREGATE}}) == {
        "room/module.py: Table.all",
        "room/module.py: later",
        "room/module.py: hidden",
        "room/module.py: gone",
    }
    assert unexplained(tmp_path, {"room/module.py": {"Table.all": FITS, "later": FITS, "hidden": FITS}}) == set()
