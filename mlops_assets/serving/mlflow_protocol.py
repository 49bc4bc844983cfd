"""MLflow's scoring protocol: its four JSON forms and CSV, read as columns.

What belongs here: reading a body, writing predictions. What does not: which values are accepted (`features`), HTTP.

The forms are those of MLflow's documentation, "Deploy MLflow models: accepted input formats". Differences: a column
that the contract does not have is refused instead of ignored, and rows without names of columns are refused, since
their order would be a guess.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from mlops_assets.serving.answers import Refused
from mlops_assets.serving.scoring import Scores

FORMS: Final = ("dataframe_split", "dataframe_records", "instances", "inputs")
_DECODER = msgspec.json.Decoder()
_ENCODE = msgspec.json.Encoder().encode
_NOT_JSON: Final = "the body is not JSON (RFC 8259: no NaN, no Infinity)"
_ONE_OF: Final = f"the body has to be a JSON object with exactly one of {', '.join(FORMS)}"


@dataclass(frozen=True)
class Columns:
    """A table that came in.

    Attributes:
        values: Values by name, each [rows].
        rows: Number of rows.
        text: Whether the values are texts of a CSV file.
    """

    values: Mapping[str, Sequence[Any]]
    rows: int
    text: bool = False


def read(body: bytes, content_type: str) -> Columns:
    """Read a request.

    Args:
        body: The body.
        content_type: Its type; `application/json` or `text/csv`, in UTF-8.

    Raises:
        Refused: Another type (415), not readable (400), or not one of the forms (400).
    """
    kind, _, parameters = content_type.partition(";")
    given = dict(part.strip().lower().partition("=")[::2] for part in parameters.split(";") if part.strip())
    if given.pop("charset", "utf-8").strip('"') != "utf-8" or given:
        raise Refused(415, "the content type may have the parameter charset=utf-8 alone")
    kind = kind.strip().lower()
    if kind == "text/csv":
        return _csv(body)
    if kind != "application/json":
        raise Refused(415, "use the content type application/json or text/csv")
    try:
        document = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, _NOT_JSON) from None
    if not isinstance(document, dict):
        raise Refused(400, _ONE_OF)
    forms = [form for form in FORMS if form in document]
    if len(forms) != 1:
        raise Refused(400, _ONE_OF)
    content = document[forms[0]]
    if forms[0] == "dataframe_split":
        return _split(content)
    if forms[0] == "inputs" and isinstance(content, dict):
        return _by_name(content)
    return _records(content)


def predictions(scores: Scores) -> bytes:
    """Return the answer: each score as the double that is equal to the float32."""
    return b'{"predictions":%b}' % _ENCODE(scores.tolist())


def _split(content: Any) -> Columns:
    if not isinstance(content, dict):
        raise Refused(400, "dataframe_split has to be an object with columns and data")
    names, data = content.get("columns"), content.get("data")
    if not (isinstance(names, list) and isinstance(data, list) and all(isinstance(name, str) for name in names)):
        raise Refused(400, "dataframe_split needs the lists columns and data")
    if len(set(names)) < len(names):
        raise Refused(422, "a column is named twice")
    if not all(isinstance(row, list) and len(row) == len(names) for row in data):
        raise Refused(422, "each row of data needs one value for each of the columns")
    values = list(zip(*data, strict=True)) if data else [()] * len(names)
    return Columns(dict(zip(names, values, strict=True)), len(data))


def _records(content: Any) -> Columns:
    if not isinstance(content, list) or not all(isinstance(row, dict) for row in content):
        raise Refused(422, "rows have to be objects with the names of the columns")
    if not content:
        return Columns({}, 0)
    names = content[0].keys()
    if any(row.keys() != names for row in content):
        raise Refused(422, "all rows need the same columns")
    return Columns({name: [row[name] for row in content] for name in names}, len(content))


def _by_name(content: dict[str, Any]) -> Columns:
    values = {name: column if isinstance(column, list) else [column] for name, column in content.items()}
    lengths = {len(column) for column in values.values()}
    if len(lengths) > 1:
        raise Refused(422, "all columns need the same number of values")
    return Columns(values, lengths.pop() if lengths else 0)


def _csv(body: bytes) -> Columns:
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8"), newline=""), strict=True)
        names = next(lines, [])
        rows = [row for row in lines if row]
    except (UnicodeDecodeError, csv.Error):
        raise Refused(400, "the body is not CSV in UTF-8") from None
    if len(set(names)) < len(names):
        raise Refused(422, "a column is named twice")
    if any(len(row) != len(names) for row in rows):
        raise Refused(422, "each row needs one value for each of the columns")
    values = list(zip(*rows, strict=True)) if rows else [()] * len(names)
    return Columns(dict(zip(names, values, strict=True)), len(rows), text=True)
