"""A large input, staged piece by piece: what is found in each piece, and what that says of the whole.

What belongs here: checking and writing one piece, and the account of an input from those of its pieces. What does not:
dividing and reading it (`data/sources/large_files`), where pieces are staged (`staging_frames`).

Each piece goes through the same code as a small input. What only the whole can tell is left to the end: whether too
many rows are bad, whether event time goes back between two pieces, whether event times can be seconds. Which of two
rows with the same key wins across pieces is found once all are staged, as across inputs (`lakehouse/known_rows`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING

from mlops_assets.data.contract.clock import require_seconds
from mlops_assets.data.ingest.new_inputs import origin_columns
from mlops_assets.data.ingest.staged_rows import CheckedRows, Times, WrittenRows
from mlops_assets.data.ingest.staging import StagedLoad, add_written
from mlops_assets.data.ingest.validation import InputFindings
from mlops_assets.errors import SchemaMismatchError, SourceError

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.ingest.staged_files import StagedFiles
    from mlops_assets.data.sources.base import LargeInput, Piece, Survey

# An input or a piece of it that can't be used.
Unusable = SourceError | SchemaMismatchError


@dataclass(frozen=True)
class StagedPiece:
    """What became of a piece: findings, event times of its good rows, and what was written."""

    findings: InputFindings
    times: Times
    written: WrittenRows


def survey(source: LargeInput) -> Survey | Unusable:
    """Return the survey of an input, or why it can't be used."""
    try:
        return source.survey()
    except (SourceError, SchemaMismatchError) as error:
        return error


def stage_piece(
    source: LargeInput, found: Survey, piece: Piece, contract: Contract, files: StagedFiles, arrived: datetime
) -> StagedPiece | Unusable:
    """Read, check and write a piece; return what became of it, or why it can't be used.

    Args:
        source: The input.
        found: Its survey.
        piece: One of its pieces.
        contract: The data contract.
        files: Where to write its rows.
        arrived: When the input came in.
    """
    try:
        table = source.read(found, piece)
        rows = CheckedRows.of(table, contract, where=source.origin, first_row=piece.first_row)
        written = rows.write(contract, origin_columns(source.origin, found.content_hash, arrived), files)
    except (SourceError, SchemaMismatchError) as error:
        return error
    return StagedPiece(rows.findings, rows.times, written)


def of_pieces(
    origin: str,
    found: Survey | Unusable,
    pieces: Sequence[StagedPiece | Unusable],
    contract: Contract,
    known: Collection[str],
    arrived: datetime,
) -> StagedLoad:
    """Return the account of one input, as `staging.stage_one` does.

    Args:
        origin: The input.
        found: Its survey.
        pieces: What became of its pieces, in order; none if it is known.
        contract: The contract that they were checked against.
        known: Batch ids that were loaded before.
        arrived: When the input came in.
    """
    load = StagedLoad()
    unusable = [item for item in (found, *pieces) if isinstance(item, Unusable)]
    if isinstance(found, Unusable) or unusable:
        load.errors = unusable[:1]
        return load
    if found.content_hash in known:
        load.known, load.known_rows = [origin], found.rows
        return load
    staged = [piece for piece in pieces if isinstance(piece, StagedPiece)]
    findings = InputFindings.of_pieces([piece.findings for piece in staged], contract)
    times = [piece.times for piece in staged if piece.times.first is not None]
    findings.disorder += sum(after.first < before.last for before, after in pairwise(times))
    try:
        if times:
            earliest, latest = min(one.earliest for one in times), max(one.latest for one in times)
            require_seconds(earliest, latest, contract, where=origin)
    except SourceError as error:
        load.errors = [error]
        return load
    load.findings.inputs.append(findings)
    if not findings.refused(contract):
        written = [piece.written for piece in staged]
        add_written(load, origin, found.content_hash, findings, written, contract, arrived)
        load.divided = len(staged) > 1
    return load
