"""`mlops score`: score a file with the champion, without a server and without Spark.

What belongs here: reading and writing the file. What does not: rules of rows (`data/contract`), scores (`serving`).
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq

from mlops_assets.cli.exit_codes import DONE
from mlops_assets.cli.registry import open_source
from mlops_assets.data.contract.diff import renamed
from mlops_assets.data.sources.files import FilesSource
from mlops_assets.errors import SourceError
from mlops_assets.lineage import PROBABILITY
from mlops_assets.serving.bundle import ServedVersion, load_bundle
from mlops_assets.serving.following import fetch
from mlops_assets.serving.from_registry import champion_of, policy_of
from mlops_assets.serving.tables import require_features, score_rows
from mlops_assets.serving.watching import VERSIONS_FOLDER

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.sources.limits import Limits
    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec


def run_score(settings: Settings, spec: FraudModelSpec, file: Path, output: Path | None) -> int:
    """Score a file, and return the exit code.

    Raises:
        SourceError: The file can't be read.
        SchemaMismatchError: It lacks a feature.
        TrackingError: There is no champion, or it can't be loaded.
    """
    rows = _read(file, spec.contract, settings.limits)
    source = open_source(settings, spec)
    version = champion_of(source)
    place = fetch(source, version, settings.home / "serving" / source.registered / VERSIONS_FOLDER)
    # The bundle may have been written before the policy was changed.
    bundle = replace(load_bundle(place, spec.contract.features), policy=policy_of(source, version))
    scored = score_table(rows, spec.contract, bundle, where=str(file))
    _write(scored, output)
    bad = scored.num_rows - pc.sum(pc.is_valid(scored.column(PROBABILITY))).as_py() if scored.num_rows else 0
    said = (
        f"{scored.num_rows:,} rows scored with {source.registered} version {version.number}, policy "
        f"{bundle.policy.version}; {bad:,} break the contract"
    )
    sys.stderr.write(f"{said}\n")
    return DONE


def score_table(rows: pa.Table, contract: Contract, version: ServedVersion, *, where: str) -> pa.Table:
    """Return rows with the columns `probability_of_fraud`, `decision`, `policy_version`, `model_version`, `wrong`.

    Args:
        rows: The features, and any other columns, which stay.
        contract: What a row must be.
        version: The model.
        where: What the rows are, for errors.

    Raises:
        SchemaMismatchError: A feature is missing.
    """
    require_features(rows.column_names, contract, where=where)
    scored = score_rows(rows, contract, version)
    added: dict[str, Any] = {
        PROBABILITY: scored.scores,
        "decision": scored.decisions,
        "policy_version": pa.array([version.policy.version] * rows.num_rows, pa.string()),
        "model_version": pa.array([version.number] * rows.num_rows, pa.int64()),
        "wrong": pc.binary_join(scored.findings, ","),
    }
    for name, column in added.items():
        rows = rows.append_column(name, column)
    return rows


def _read(file: Path, contract: Contract, limits: Limits) -> pa.Table:
    batches = list(FilesSource(str(file), limits=limits).batches())
    if len(batches) != 1:
        raise SourceError(f"{len(batches)} files", where=str(file), fix="name one file")
    return renamed(batches[0].table, contract, where=str(file))


def _write(rows: pa.Table, output: Path | None) -> None:
    if output is not None and output.suffix == ".parquet":
        pq.write_table(rows, output)
        return
    target = sys.stdout.buffer if output is None else str(output)
    pa_csv.write_csv(rows, target)
