"""The model card of a registered version, and the packages that it was made with.

What belongs here: the texts. What does not: writing them (`record`).
"""

from __future__ import annotations

import json
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Final

from mlops_assets.lineage import SBOM_FILE

if TYPE_CHECKING:
    from mlops_assets.registry.tuned_run import TunedRun
    from mlops_assets.registry.verified import VerifiedModel

_CARD: Final = """\
# {name} version {number}

{said}

## Use

It scores single transactions and gives the probability of fraud. Inputs: {inputs}.
SHA-256 of the booster: `{sha256}`.

## Evaluation

{rows} test rows with {frauds} frauds, all later than what the evaluated model was fitted on. A production model, if
that is what is served, was fitted on them as well.

## Limits

The figures hold for later transactions of the same kind, for as long as these do not change. Labels are those that were
known when the sets were cut. The gate's verdict says which parts of the rows it judged by themselves.

## Pictures and packages

Pictures are in the folders `pictures` and `explanation` of MLflow run {run}, packages in `{packages}` beside this file.
"""


def card(model: VerifiedModel, run: TunedRun, said: str) -> str:
    """Return the model card of a version in Markdown.

    Args:
        model: The version.
        run: The run that made it.
        said: Its description.
    """
    return _CARD.format(
        name=model.name,
        number=model.number,
        said=said,
        inputs=", ".join(f"`{name}` ({kind})" for name, kind in model.inputs.items()),
        sha256=model.sha256,
        rows=run.evaluation.get("rows", "unknown"),
        frauds=run.evaluation.get("frauds", "unknown"),
        run=run.run_id,
        packages=SBOM_FILE,
    )


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
