"""Differences between a contract and the columns of an input, or the contract that a table was written under.

What belongs here: finding differences, rendering them as text and as a Markdown table, and which of them a table can
follow. What does not: the contract itself (`contract`), values (`conform`), changing a table (`lakehouse`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from mlops_assets.data.contract.arrow_types import plain_type
from mlops_assets.data.contract.column import Column, ColumnType
from mlops_assets.data.contract.contract import BY_EVENT_TIME, Contract
from mlops_assets.errors import ContractError, SchemaMismatchError
from mlops_assets.foreign_text import in_cell

# What a row must be to enter the table. The rest of a contract is about whole loads and about models: changing it
# affects no row.
_RULES = ("name", "columns", "key", "event_time", "target")
_COLUMN_RULES = ("type", "nullable", "min", "max")


@dataclass(frozen=True)
class Difference:
    """One difference.

    Attributes:
        part: Column or role.
        problem: What kind: missing, unknown, changed type ...
        wanted: What the contract, or the table, says.
        found: What is there instead.
    """

    part: str
    problem: str
    wanted: str = ""
    found: str = ""


def as_markdown(differences: Sequence[Difference], *, wanted: str, found: str) -> str:
    """Return the differences as a table, under the given headings."""
    lines = [f"| column | problem | {wanted} | {found} |", "|---|---|---|---|"]
    cells = ((d.part, d.problem, d.wanted, d.found) for d in differences)
    lines += ["| " + " | ".join(map(in_cell, row)) + " |" for row in cells]
    return "\n".join(lines)


def renamed(table: pa.Table, contract: Contract, *, where: str) -> pa.Table:
    """Return input with the contract's names for columns that it calls otherwise (`rename`).

    Args:
        table: Input, names lower-cased.
        contract: What is expected.
        where: The input, for the error.

    Raises:
        SchemaMismatchError: A column is there under both names.
    """
    names = [contract.rename.get(name, name) for name in table.column_names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SchemaMismatchError(
            f"columns under two names: {', '.join(twice)} (contract {contract.versioned_name}, `rename`)",
            where=where,
            fix="keep one of the two in the input, or list the other under the contract's `ignored`",
        )
    return table.rename_columns(names)


def require_columns(schema: pa.Schema, contract: Contract, *, where: str, types_too: bool = True) -> None:
    """Refuse input whose columns are not the contract's, or are of a type that can't be read as the contract's.

    Args:
        schema: The input's columns, names lower-cased. Text and binary columns may hold anything; `conform` looks
            at their values.
        contract: What is expected.
        where: The input, for the error.
        types_too: Whether to look at types; `conform` does not, and counts each value of a wrong type as unreadable.

    Raises:
        SchemaMismatchError: Columns are missing or unknown, or of a wrong type; with a table of all of them.
    """
    types = dict(zip(schema.names, schema.types, strict=True))
    missing = [column for column in contract.columns if column.name not in types]
    extra = [name for name in types if name not in contract.column_names and name not in contract.ignored]
    changed = [
        column
        for column in contract.columns
        if types_too and column.name in types and not _can_be_read(types[column.name], column.type)
    ]
    if not (missing or extra or changed):
        return
    parts = [f"missing columns: {', '.join(column.name for column in missing)}"] if missing else []
    parts += [f"unknown columns: {', '.join(extra)}"] if extra else []
    parts += (
        [f"changed types: {', '.join(f'{c.name} is {types[c.name]}, not {c.type}' for c in changed)}"]
        if changed
        else []
    )
    differences = [Difference(column.name, "missing", column.type) for column in missing]
    differences += [Difference(name, "unknown", found=str(types[name])) for name in extra]
    differences += [Difference(c.name, "changed type", c.type, str(types[c.name])) for c in changed]
    raise SchemaMismatchError(
        f"{'; '.join(parts)} (contract {contract.name} v{contract.version})",
        where=where,
        fix="load the right file, choose another contract, or list columns to drop under its `ignored`",
        diff=as_markdown(differences, wanted=contract.versioned_name, found="input"),
    )


def _can_be_read(found: pa.DataType, wanted: ColumnType) -> bool:
    """Return whether any value of an Arrow type can be read as the contract's (see `casting.read_column`)."""
    kind = plain_type(pa.chunked_array([pa.nulls(0, found)])).type
    if pa.types.is_null(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return True
    temporal = pa.types.is_timestamp(kind) or pa.types.is_date(kind)
    if wanted == "timestamp":
        return bool(temporal)
    if wanted == "string":
        return not pa.types.is_nested(kind)
    numeric = (pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal, pa.types.is_boolean)
    return any(is_it(kind) for is_it in numeric)


def table_rules(contract: Contract) -> str:
    """Return what a contract says about single rows, as JSON, to be stored with a table."""
    document = contract.model_dump(mode="json", include=set(_RULES))
    if contract.last_write != BY_EVENT_TIME:  # left out before there was a choice
        document["last_write"] = contract.last_write
    document["columns"] = {c["name"]: {rule: c[rule] for rule in _COLUMN_RULES} for c in document["columns"]}
    return json.dumps({**document, "version": contract.version}, sort_keys=True)


def new_columns(contract: Contract, rules: str, *, where: str) -> list[Column]:
    """Return the columns that must be added to a table before rows of the contract are written.

    Args:
        contract: Today's.
        rules: What the table was written under (`table_rules`).
        where: The table, for the error.

    Raises:
        ContractError: The contract has changed and its version has not; the version went back; or the table can't
            follow, since a column was removed, changed its type, stopped being nullable or is new and not nullable,
            or the table is about something else.
    """
    before: dict[str, Any] = json.loads(rules)
    now: dict[str, Any] = json.loads(table_rules(contract))
    differences = _differences(before, now)
    heading = {"wanted": f"table (v{before['version']})", "found": f"contract (v{contract.version})"}
    if contract.version < before["version"]:
        raise ContractError(
            f"the table was written under version {before['version']} of the contract, this is {contract.version}",
            where=where,
            fix="use the newer contract, or another database (MLOPS_DATABASE)",
            diff=as_markdown(differences, **heading),
        )
    if differences and contract.version == before["version"]:
        raise ContractError(
            f"the contract has changed, its version is still {contract.version}: {_listed(differences)}",
            where=where,
            fix="raise `version` in the contract if the change is intended, or revert it",
            diff=as_markdown(differences, **heading),
        )
    impossible = [difference for difference in differences if not _can_follow(difference)]
    if impossible:
        raise ContractError(
            f"the table can't follow the contract to version {contract.version}: {_listed(impossible)}",
            where=where,
            fix="a raised version may add nullable columns, change ranges and allow nulls; for anything else set "
            "MLOPS_DATABASE to a new database",
            diff=as_markdown(impossible, **heading),
        )
    return [column for column in contract.columns if column.name not in before["columns"]]


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[Difference]:
    before, now = ({"last_write": BY_EVENT_TIME, **rules} for rules in (before, now))
    roles = [role for role in (*_RULES, "last_write") if role != "columns" and before[role] != now[role]]
    found = [Difference(role, "changed role", _shown(before[role]), _shown(now[role])) for role in roles]
    old, new = before["columns"], now["columns"]
    found += [Difference(name, "removed", old[name]["type"]) for name in old if name not in new]
    for name, column in new.items():
        if name not in old:
            nullable = "nullable" if column["nullable"] else "not nullable"
            found.append(Difference(name, f"new, {nullable}", found=column["type"]))
            continue
        found += [
            Difference(name, f"changed {rule}", _shown(old[name][rule]), _shown(column[rule]))
            for rule in _COLUMN_RULES
            if old[name][rule] != column[rule]
        ]
    return found


def _can_follow(difference: Difference) -> bool:
    loosened = difference.problem == "changed nullable" and difference.found == "true"
    return loosened or difference.problem in ("new, nullable", "changed min", "changed max")


def _listed(differences: Sequence[Difference]) -> str:
    return "; ".join(
        f"{d.part}: {d.problem}" + (f" ({d.wanted} -> {d.found})" if d.wanted else "") for d in differences
    )


def _shown(value: object) -> str:
    return "none" if value is None else json.dumps(value).strip('"')
