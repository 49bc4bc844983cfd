"""Arrow's many forms of the same values, reduced to those that its kernels know.

What belongs here: physical types (views, dictionaries, large and binary text) and damaged text. What does not: the
types of a contract, and reading values as one of them (`casting`).
"""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc


def is_text(kind: pa.DataType) -> bool:
    """Return whether a plain type (see `plain_type`) is text."""
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def plain_type(raw: pa.ChunkedArray) -> pa.ChunkedArray:
    """Return the same values as one of the types that Arrow's kernels know; text may be undecodable."""
    if isinstance(raw.type, pa.BaseExtensionType):
        raw = raw.cast(raw.type.storage_type)
    if pa.types.is_dictionary(raw.type):
        raw = raw.cast(raw.type.value_type)
    if pa.types.is_run_end_encoded(raw.type):
        raw = pc.run_end_decode(raw)
    if pa.types.is_string_view(raw.type):
        return raw.cast(pa.large_string())
    if pa.types.is_binary_view(raw.type) or pa.types.is_fixed_size_binary(raw.type):
        raw = raw.cast(pa.large_binary())
    if pa.types.is_binary(raw.type) or pa.types.is_large_binary(raw.type):
        # Parquet files of some writers do not say that their bytes are text.
        return raw.cast(pa.large_string(), safe=False)
    return raw


def undecodable(text: pa.ChunkedArray) -> pa.ChunkedArray | None:
    """Return which rows are not UTF-8, or None when all are; Parquet readers do not check."""
    try:
        text.validate(full=True)
    except pa.ArrowInvalid:
        return pa.chunked_array([[not _is_utf8(value) for value in text.cast(pa.large_binary()).to_pylist()]])
    return None


def _is_utf8(value: bytes | None) -> bool:
    try:
        (value or b"").decode()
    except UnicodeDecodeError:
        return False
    return True
