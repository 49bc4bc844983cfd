"""The model card of a registered version, and the packages that it was made with.

What belongs here: the texts. What does not: writing them and telling the verdict (`record`), counting rows
(`registration`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Final

from mlops_assets.foreign_text import in_cell, in_sentence
from mlops_assets.lineage import SBOM_FILE

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.data.splits.split_checks import SetSummary
    from mlops_assets.registry.tuned_run import TunedRun
    from mlops_assets.registry.verified import VerifiedModel

_CARD: Final = """\
# {name} version {number}

{said}

## Use

It scores single transactions and gives the probability of fraud. Inputs: {inputs}.
SHA-256 of the booster: `{sha256}`.

## Data

{source} License: {license}.
Contract {contract}.

| set | table version | rows | frauds | first event | last event |
|:--|--:|--:|--:|:--|:--|
{sets}

## Evaluation

All test rows are later than what the evaluated model was fitted on. A production model, if that is what is served, was
fitted on them as well.

{slices}

## What drives it

{importance}

## Limits

The figures hold for later transactions of the same kind, for as long as these do not change. Labels are those that were
known when the sets were cut.

## Pictures and packages

Pictures are in the folders `pictures` and `explanation` of MLflow run {run}, packages in `{packages}` beside this file.
"""
_NO_PARTS: Final = "No part of the rows was judged by itself: there was no champion, or too few frauds in each part."
_FEATURES: Final = 10


def card(
    model: VerifiedModel,
    run: TunedRun,
    said: str,
    *,
    contract: Contract,
    sets: Mapping[str, SetSummary],
    parts: Mapping[str, float],
    importance: Mapping[str, float],
) -> str:
    """Return the model card of a version in Markdown.

    Args:
        model: The version.
        run: The run that made it.
        said: Its description.
        contract: The contract of its rows.
        sets: What its sets hold, by the names of their tables.
        parts: Lower end of the gain in average precision over the champion in each part of the rows, by its name.
        importance: Mean absolute SHAP value of each feature, log-odds, largest first.
    """
    timed = contract.column(contract.event_time).type == "timestamp"
    lines = [
        f"|{name}|{run.tables[name]}|{of.rows:,}|{of.frauds:,}|{_at(of.first, timed)}|{_at(of.last, timed)}|"
        for name, of in sets.items()
    ]
    judged = _table("part of the rows", "gain in average precision over the champion, lower end", list(parts.items()))
    return _CARD.format(
        name=model.name,
        number=model.number,
        said=said,
        inputs=", ".join(f"{in_cell(name)} ({kind})" for name, kind in model.inputs.items()),
        sha256=model.sha256,
        source=in_sentence(contract.description or "The contract does not describe the data."),
        license=in_sentence(contract.license or "the contract states none"),
        contract=contract.versioned_name,
        sets="\n".join(lines),
        slices=judged if parts else _NO_PARTS,
        importance=_table("feature", "mean size of its contribution (log-odds)", list(importance.items())[:_FEATURES]),
        run=run.run_id,
        packages=SBOM_FILE,
    )


def _at(seconds: float | None, timed: bool) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds") if timed else f"{seconds:,.0f} s"


def _table(of: str, figure: str, rows: list[tuple[str, float]]) -> str:
    return "\n".join([f"| {of} | {figure} |", "|:--|--:|", *(f"|{in_cell(name)}|{value:.3g}|" for name, value in rows)])


def bill_of_materials() -> str:
    """Return the packages of this process as CycloneDX 1.6 (ECMA-424), without hashes."""
    found = {each.metadata["Name"]: each.version for each in distributions()}
    components = [
        {
            "type": "library",
            "name": name,
            "version": version,
            # Names as PyPI compares them (PEP 503).
            "purl": f"pkg:pypi/{name.lower().replace('_', '-').replace('.', '-')}@{version}",
        }
        for name, version in sorted(found.items())
    ]
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": components}
    return json.dumps(document, indent=1)
