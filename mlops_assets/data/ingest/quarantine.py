"""Set rows that break the contract aside as text, and retry them later from that text.

What belongs here: from a batch to its quarantined rows, and from quarantined rows back to a batch.
What does not: finding what is wrong (`conform`), how many bad rows are too many (`validation`), tables (`lakehouse`).

A quarantined row keeps the values of all columns of its input as text, and parsing the text gives the same value as
parsing the input: for text files the text itself, for typed columns a form that round-trips. A value without such a
text (bytes that are not UTF-8, nested values, floats that have lost digits of a whole number) is kept in a readable
form and marked `not_text`. It is not retried, because its readable form would be mistaken for the value itself.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops_assets.data.columns import ORIGINAL, REASONS, ROW_NUMBER, SOURCE, TECHNICAL_COLUMNS
from mlops_assets.data.contract.arrow_types import is_text, plain_type, undecodable
from mlops_assets.data.contract.casting import EXACT_BITS
from mlops_assets.data.contract.column import ColumnType
from mlops_assets.data.contract.conform import ConformedBatch, conform
from mlops_assets.data.contract.contract import Contract

NOT_TEXT = "not_text"


def bad_rows(raw: pa.Table, batch: ConformedBatch, contract: Contract) -> pa.Table:
    """Return the rows that break the contract.

    Args:
        raw: The batch as it was read.
        batch: The same batch, conformed.
        contract: The contract that it was checked against.

    Returns:
        See `set_aside`.
    """
    return set_aside(raw, batch.reasons, {column.name: column.type for column in contract.columns})


def set_aside(raw: pa.Table, faults: Mapping[str, pa.ChunkedArray], types: Mapping[str, ColumnType]) -> pa.Table:
    """Return the rows that have any fault.

    Args:
        raw: The batch as it was read.
        faults: Which rows have the fault, by reason code (see `ConformedBatch.reasons`).
        types: Expected type by column, for the columns that are parsed; the others are only kept as text.

    Returns:
        `_row_number` (int64, position in the batch), `reasons` (list of reason codes, at least one), `original` (map of
        column name to text, null for a missing value).
    """
    bad = reduce(pc.or_, faults.values()) if faults else None
    chosen = pa.array([], pa.int64()) if bad is None else pc.indices_nonzero(bad.combine_chunks()).cast(pa.int64())
    reasons = {code: mask.combine_chunks().take(chosen) for code, mask in faults.items()}
    texts: dict[str, pa.Array] = {}
    for name in raw.column_names:
        column = pa.chunked_array([raw.column(name).combine_chunks()]).take(chosen)
        texts[name], no_text = _as_text(column, types.get(name, "string"))
        if no_text is not None and name in types:
            reasons[f"{NOT_TEXT}:{name}"] = no_text
    return pa.table(
        {
            ROW_NUMBER: chosen,
            REASONS: _lists(reasons, len(chosen)),
            ORIGINAL: _maps(texts, len(chosen)),
        }
    )


def try_again(quarantined: pa.Table, contract: Contract) -> tuple[ConformedBatch, pa.Table]:
    """Check quarantined rows against the current contract.

    Args:
        quarantined: Rows with `reasons` and `original`, as `bad_rows` returns them; other columns are passed through.
        contract: The current contract.

    Returns:
        The rows in the contract's types, numbered by their position in `quarantined`; and `quarantined` with the
        reasons under the current contract, empty lists for rows that meet it.
    """
    originals = quarantined.column(ORIGINAL).combine_chunks()
    columns = {
        column.name: pc.map_lookup(originals, pa.scalar(column.name), "first").cast(pa.string())
        for column in contract.columns
    }
    batch = conform(pa.table(columns), contract, where="quarantine")
    kept = _not_text(quarantined.column(REASONS).combine_chunks(), contract)
    batch = replace(batch, reasons=batch.reasons | kept)
    reasons = {code: mask.combine_chunks() for code, mask in batch.reasons.items()}
    position = quarantined.column_names.index(REASONS)
    return batch, quarantined.set_column(position, REASONS, _lists(reasons, quarantined.num_rows))


def accepted_again(quarantined: pa.Table, batch: ConformedBatch, contract: Contract) -> tuple[pa.Array, pa.Table]:
    """Return which quarantined rows meet the contract now, and those rows as the raw table holds them.

    Args:
        quarantined: Quarantined rows, with `TECHNICAL_COLUMNS`.
        batch: The same rows, from `try_again`.
        contract: The contract that they were checked against.

    Returns:
        One bool per row; and the good rows with the contract's columns, then `TECHNICAL_COLUMNS`.
    """
    every = pa.array([True] * quarantined.num_rows)
    good = every if batch.bad is None else pc.invert(batch.bad.combine_chunks())
    rows = batch.table.select(list(contract.column_names)).filter(good)
    kept = quarantined.filter(good)
    for name in TECHNICAL_COLUMNS:
        rows = rows.append_column(name, kept.column(name))
    return good, rows


def count_reasons(quarantined: pa.Table) -> dict[str, int]:
    """Return the number of rows per reason code, most frequent first; a row counts under each of its reasons."""
    counted = pc.value_counts(pc.list_flatten(quarantined.column(REASONS).combine_chunks()))
    pairs = {pair["values"]: int(pair["counts"]) for pair in counted.to_pylist()}
    return dict(sorted(pairs.items(), key=lambda pair: (-pair[1], pair[0])))


def _not_text(reasons: pa.ListArray, contract: Contract) -> dict[str, pa.ChunkedArray]:
    """Return which rows hold a value marked `not_text`, by reason code, for columns that the contract still has."""
    rows = pc.list_parent_indices(reasons)
    codes = pc.list_flatten(reasons)
    masks = {}
    for column in contract.columns:
        code = f"{NOT_TEXT}:{column.name}"
        marked = rows.filter(pc.equal(codes, code))
        if len(marked):
            mask = np.zeros(len(reasons), dtype=bool)
            mask[marked.to_numpy()] = True
            masks[code] = pa.chunked_array([pa.array(mask)])
    return masks


def _as_text(column: pa.ChunkedArray, wanted: ColumnType) -> tuple[pa.Array, pa.Array | None]:
    """Return the values as text, and a mask of those that text can't represent; None if it can represent all."""
    plain = plain_type(column)
    if is_text(plain.type):
        damaged = undecodable(plain)
        if damaged is None:
            return plain.cast(pa.large_string()).combine_chunks(), None
        values = plain.cast(pa.large_binary()).to_pylist()
        shown = [None if value is None else value.decode(errors="backslashreplace") for value in values]
        return pa.array(shown, pa.large_string()), damaged.combine_chunks()
    if wanted == "boolean" and (pa.types.is_floating(plain.type) or pa.types.is_decimal(plain.type)):
        plain = plain.cast(pa.float64(), safe=False)
        zero = pc.equal(plain, 0.0)  # also -0, whose text is another
        plain = pc.if_else(zero, 0.0, pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain))
    elif pa.types.is_boolean(plain.type) and wanted != "string":  # as a number True is 1, and the text "true" is not
        plain = plain.cast(pa.int8())
    elif pa.types.is_floating(plain.type):  # as double, the way it is parsed: 0.1 in float32 is not 0.1
        bits = EXACT_BITS[plain.type.bit_width]
        plain = plain.cast(pa.float64())
        if wanted == "string":  # NaN is a missing value, but the text "nan" would not be
            plain = pc.if_else(pc.is_nan(plain), pa.scalar(None, plain.type), plain)
        inexact = pc.fill_null(pc.greater_equal(pc.abs(plain), float(2**bits)), False)
        if wanted == "long" and pc.any(inexact).as_py():  # digits are lost already, and the text would hide that
            return plain.cast(pa.large_string()).combine_chunks(), inexact.combine_chunks()
    try:
        return plain.cast(pa.large_string()).combine_chunks(), None
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        shown = [None if value is None else str(value) for value in plain.to_pylist()]
        return pa.array(shown, pa.large_string()), pc.is_valid(plain).combine_chunks()


def _lists(reasons: dict[str, pa.Array], rows: int) -> pa.ListArray:
    """Turn masks into one list of codes per row."""
    masks = [np.asarray(mask.to_numpy(zero_copy_only=False), dtype=bool) for mask in reasons.values()]
    count = reduce(np.add, [mask.astype(np.int32) for mask in masks], np.zeros(rows, dtype=np.int32))
    offsets = np.concatenate([[0], np.cumsum(count)]).astype(np.int32)
    # The codes of one row after another: the true cells of the (rows, codes) matrix, in row order.
    matrix = np.stack(masks, axis=1) if masks else np.zeros((rows, 0), dtype=bool)
    codes = pa.array(list(reasons), pa.string()).take(pa.array(np.nonzero(matrix)[1]))
    return pa.ListArray.from_arrays(pa.array(offsets), codes)


def _maps(texts: dict[str, pa.Array], rows: int) -> pa.MapArray:
    """Turn columns of text into one map per row."""
    names, width = list(texts), len(texts)
    keys = pa.array(names, pa.string()).take(pa.array(np.tile(np.arange(width), rows)))
    every = pa.concat_arrays(texts.values())
    items = every.take(pa.array(np.arange(rows * width).reshape(width, rows).T.ravel()))
    return pa.MapArray.from_arrays(pa.array(np.arange(rows + 1, dtype=np.int32) * width), keys, items)


def first_originals(quarantined: pa.Table, rows: int) -> Sequence[dict[str, str]]:
    """Return the first rows for a preview: input, position, reasons, and the values that the reasons refer to."""
    shown = []
    for row in quarantined.slice(0, rows).to_pylist():
        original = dict(row[ORIGINAL])
        named = dict.fromkeys(code.partition(":")[2] for code in row[REASONS])
        values = ", ".join(f"{name} = {original.get(name)!r}"[:80] for name in named)
        shown.append(
            {
                "source": str(row.get(SOURCE)),
                "row": str(row[ROW_NUMBER]),
                "reasons": ", ".join(row[REASONS]),
                "values": values,
            }
        )
    return shown
