"""The Open Inference Protocol, version 2 (KServe, Triton, MLServer), over HTTP and JSON.

What belongs here: tensors in, tensors out, metadata. What does not: which values are accepted (`features`), HTTP.

A request has one tensor per feature, of shape [rows] or [rows, 1], or a single one of shape [rows, features] in the
contract's order. Source: the protocol's specification, `specification/protocol/inference_rest.md`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from mlops_assets.lineage import PROBABILITY
from mlops_assets.serving.answers import Refused
from mlops_assets.serving.mlflow_protocol import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.serving.scoring import Scores
    from mlops_assets.serving.service import Chosen

PLATFORM: Final = "xgboost"
_TYPES: Final = ("BOOL", "UINT8", "UINT16", "UINT32", "UINT64", "INT8", "INT16", "INT32", "INT64", "FP16", "FP32")
_KNOWN: Final = frozenset((*_TYPES, "FP64", "BYTES"))
_ENCODE = msgspec.json.Encoder().encode
_VECTOR, _MATRIX = 1, 2


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any]


class _Output(msgspec.Struct):
    name: str


class _Request(msgspec.Struct):
    inputs: list[_Tensor]
    id: str = ""
    outputs: list[_Output] = []


_DECODER = msgspec.json.Decoder(_Request)


def read(body: bytes, contract: Contract) -> tuple[Columns, str]:
    """Read a request; return its table and its id.

    Raises:
        Refused: It is not one of the protocol (400), or its tensors do not fit (422).
    """
    try:
        request = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(400, "the body is not an inference request: inputs with name, shape, datatype and data") from None
    if any(output.name != PROBABILITY for output in request.outputs):
        raise Refused(422, f"the only output is {PROBABILITY}")
    names = [tensor.name for tensor in request.inputs]
    if not names or len(set(names)) < len(names):
        raise Refused(422, "inputs need tensors with different names")
    first = request.inputs[0]
    if len(names) == 1 and len(first.shape) == _MATRIX and first.shape[1] == len(contract.features) > 1:
        flat = _values(first)
        width = first.shape[1]
        columns = {name: flat[at::width] for at, name in enumerate(contract.features)}
        return Columns(columns, first.shape[0]), request.id
    columns = {}
    for tensor in request.inputs:
        if len(tensor.shape) not in (_VECTOR, _MATRIX) or tensor.shape[1:] not in ([], [1]):
            raise Refused(422, "a tensor of a feature has the shape [rows] or [rows, 1]")
        columns[tensor.name] = _values(tensor)
    if len({tensor.shape[0] for tensor in request.inputs}) > 1:
        raise Refused(422, "all tensors need the same number of rows")
    return Columns(columns, first.shape[0]), request.id


def answer(model: str, chosen: Chosen, request_id: str, scores: Scores) -> bytes:
    """Return the answer to an inference request."""
    output = {"name": PROBABILITY, "shape": [len(scores)], "datatype": "FP32", "data": scores.tolist()}
    return _ENCODE(
        {
            "model_name": model,
            "model_version": str(chosen.version.number),
            "id": request_id,
            "parameters": {"policy_version": chosen.version.policy.version},
            "outputs": [output],
        }
    )


def metadata(model: str, contract: Contract, versions: Sequence[int]) -> bytes:
    """Return what the protocol says of a model."""
    kinds = {"double": "FP64", "long": "INT64", "string": "BYTES", "boolean": "BOOL"}
    inputs = [
        {"name": name, "datatype": kinds[contract.column(name).type], "shape": [-1]} for name in contract.features
    ]
    return _ENCODE(
        {
            "name": model,
            "versions": [str(number) for number in versions],
            "platform": PLATFORM,
            "inputs": inputs,
            "outputs": [{"name": PROBABILITY, "datatype": "FP32", "shape": [-1]}],
        }
    )


def _values(tensor: _Tensor) -> list[Any]:
    """Return a tensor's values in row-major order."""
    if tensor.datatype not in _KNOWN:
        raise Refused(422, "datatype has to be one of numbers, BOOL, or BYTES for text")
    flat: list[Any] = tensor.data
    while flat and all(isinstance(item, list) for item in flat):
        flat = [value for item in flat for value in item]
    rows = 1
    for size in tensor.shape:
        rows *= size
    if min(tensor.shape, default=-1) < 0 or len(flat) != rows:
        raise Refused(422, "data does not have as many values as shape says")
    return flat
