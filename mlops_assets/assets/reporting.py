"""From plain findings to Dagster's types.

What belongs here: turning check outcomes, contracts and pictures into Dagster's own types. What does not: computing
findings (the Dagster-free rooms), deciding what an asset does, errors (`shell`).
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import dagster as dg

from mlops_assets.data.columns import (
    INGESTED_AT,
    KNOWN_AT,
    LABEL,
    LABEL_HISTORY,
    LABEL_KNOWN_AT,
    ORIGINAL,
    OWN_LABEL,
    REASONS,
    ROW_NUMBER,
)
from mlops_assets.data.ingest.changes import CHANGES
from mlops_assets.data.labels.labels import label_table_columns
from mlops_assets.foreign_text import in_cell, in_sentence
from mlops_assets.lineage import DATA_VERSION_IS_GIVEN_TAG, DATA_VERSION_TAG

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops_assets.data.checks import CheckOutcome
    from mlops_assets.data.contract.contract import Contract
    from mlops_assets.lakehouse.commits import TableVersion
    from mlops_assets.lakehouse.lakehouse import Lakehouse
    from mlops_assets.tracking.pages import Pages

# In a failure's metadata: the input is at fault, and the same input would be refused again.
REFUSED_INPUT = "refused_input"
_TYPE_NAMES = {
    "double": "double",
    "long": "bigint",
    "timestamp": "timestamp",
    "string": "string",
    "boolean": "boolean",
}
_TECHNICAL_TYPES = {
    ROW_NUMBER: "bigint",
    INGESTED_AT: "timestamp",
    REASONS: "array<string>",
    ORIGINAL: "map<string,string>",
}
_PREVIEW_ROWS = 5
# Characters of a finding, which names inputs and columns.
_FINDING = 400
# As many as fit into the value column of an asset's page; the column schema lists the others.
_PREVIEW_COLUMNS = 6


def check_specs(checks: Mapping[str, str], asset: dg.AssetKey) -> list[dg.AssetCheckSpec]:
    """Declare blocking checks of an asset from their names and descriptions."""
    return [dg.AssetCheckSpec(name, asset=asset, description=text, blocking=True) for name, text in checks.items()]


def check_results(outcomes: Iterable[CheckOutcome], asset: dg.AssetKey) -> list[dg.AssetCheckResult]:
    """Return the outcomes as results of an asset's checks."""
    return [
        dg.AssetCheckResult(
            passed=outcome.passed,
            asset_key=asset,
            check_name=outcome.name,
            description=in_sentence(outcome.description),
            severity=dg.AssetCheckSeverity[outcome.severity.upper()],
            metadata=dict(outcome.details),
        )
        for outcome in outcomes
    ]


def input_findings(
    outcomes: Sequence[CheckOutcome], asset: dg.AssetKey, *, refused: Sequence[str], partition: str | None = None
) -> list[dg.AssetObservation]:
    """Return the verdicts on a run's inputs as one observation of an asset; none if no input was looked at.

    They are no checks of the asset, because a refused input leaves the table as it is: see `automation/outcomes`.

    Args:
        outcomes: The verdicts.
        asset: The asset that the inputs are for.
        refused: The refused inputs.
        partition: The asset's partition, if it has any.
    """
    if not outcomes:
        return []
    lines = ["| check | verdict | finding |", "|---|---|---|"]
    lines += [
        f"| {outcome.name} | {'passed' if outcome.passed else 'failed'} | {in_cell(outcome.description, _FINDING)} |"
        for outcome in outcomes
    ]
    failed = sum(not outcome.passed for outcome in outcomes)
    return [
        dg.AssetObservation(
            asset,
            description=f"input findings: {failed} of {len(outcomes)} checks failed",
            partition=partition,
            metadata={
                "input_checks_failed": failed,
                "inputs_refused": dg.MetadataValue.json(sorted(refused)),
                "input_findings": dg.MetadataValue.md("\n".join(lines)),
                **{name: dg.MetadataValue.md(str(table)) for name, table in _changes(outcomes).items()},
            },
        )
    ]


def _changes(outcomes: Sequence[CheckOutcome]) -> dict[str, object]:
    """Return the table of what a load would change, if it replaces rows."""
    tables = [outcome.details[CHANGES] for outcome in outcomes if CHANGES in outcome.details]
    return {CHANGES: tables[0]} if tables else {}


def refusal(
    outcomes: Iterable[CheckOutcome], *, what: str, blames_input: bool = True, transient: bool = False
) -> dg.Failure | None:
    """Return the failure of an asset whose checks failed, or None if every check passed.

    Args:
        outcomes: The verdicts.
        what: What was refused.
        blames_input: Whether the same input would be refused again.
        transient: Whether it may be readable soon, so that the asset is tried again.
    """
    failed = [outcome for outcome in outcomes if not outcome.passed]
    if not failed:
        return None
    reasons = "; ".join(f"{outcome.name}: {outcome.description}" for outcome in failed)
    metadata = {REFUSED_INPUT: True} if blames_input else {}
    return dg.Failure(f"{what}: {reasons}", metadata=metadata, allow_retries=transient and not blames_input)


def column_schema(contract: Contract, technical: Mapping[str, str]) -> dg.TableSchema:
    """Return the columns of a table with the contract's columns, for the catalog.

    Args:
        contract: Names, types and descriptions.
        technical: Description of each column that the platform adds.
    """
    columns = [
        dg.TableColumn(
            column.name,
            _TYPE_NAMES[column.type],
            description=column.description,
            constraints=dg.TableColumnConstraints(nullable=column.nullable, unique=column.name == contract.key),
            tags={"role": _role(contract, column.name)},
        )
        for column in contract.columns
    ]
    clock = _clock(contract)
    history = f"array<struct<known_at:{clock},arrived:timestamp,label:bigint>>"
    types = {LABEL_KNOWN_AT: clock, OWN_LABEL: "bigint", LABEL_HISTORY: history}
    return dg.TableSchema([*columns, *_technical_columns(technical, types)])


def label_schema(contract: Contract) -> dg.TableSchema:
    """Return the columns of the table of late labels, for the catalog.

    Raises:
        ContractError: The contract has no `labels`.
    """
    described = label_table_columns(contract)
    key = next(iter(described))
    types = {key: _TYPE_NAMES[contract.column(key).type], LABEL: "bigint", KNOWN_AT: _clock(contract)}
    return dg.TableSchema(_technical_columns(described, types))


def technical_schema(described: Mapping[str, str]) -> dg.TableSchema:
    """Return the columns of one of the platform's own tables, for the catalog.

    Args:
        described: Description of each column.
    """
    return dg.TableSchema(_technical_columns(described, {}))


def _clock(contract: Contract) -> str:
    """Return the type of the column that says when labels became known."""
    return "timestamp" if contract.column(contract.event_time).type == "timestamp" else "double"


def _technical_columns(described: Mapping[str, str], types: Mapping[str, str]) -> list[dg.TableColumn]:
    known = {**_TECHNICAL_TYPES, **types}
    return [
        dg.TableColumn(name, known.get(name, "string"), description=text, tags={"role": "technical"})
        for name, text in described.items()
    ]


def _role(contract: Contract, name: str) -> str:
    roles = {contract.target: "target", contract.event_time: "event_time"}
    return roles.get(name, "feature" if name in contract.features else "other")


def data_version(lakehouse: Lakehouse, table: TableVersion | None) -> dg.DataVersion | None:
    """Return the version of a table's rows: a load that adds nothing leaves what is made of them up to date."""
    return None if table is None else dg.DataVersion(lakehouse.data_version(table))


def version_tags(lakehouse: Lakehouse, table: TableVersion | None) -> dict[str, str]:
    """Return `data_version` as tags, for an event that has no argument for it."""
    given = data_version(lakehouse, table)
    return {} if given is None else {DATA_VERSION_TAG: given.value, DATA_VERSION_IS_GIVEN_TAG: "true"}


def known(**values: Any) -> dict[str, Any]:
    """Return the values that are there; what is not known has no entry, rather than a number that means nothing."""
    return {name: value for name, value in values.items() if value is not None}


def thumbnail(svg: str, title: str) -> dg.MarkdownMetadataValue:
    """Return a small picture that the table of metadata shows at once (`evaluation/plots/thumbnails`)."""
    return dg.MetadataValue.md(f"![{title}](data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()})")


def pages_of_run(
    pages: Pages, experiment_id: str, run_id: str, files: Mapping[str, Iterable[str]]
) -> dict[str, dg.MetadataValue[Any]]:
    """Return links to an MLflow run and to its pictures.

    Args:
        pages: MLflow's UI.
        experiment_id: The run's experiment.
        run_id: The run.
        files: Names of pictures by folder.
    """
    names = [(name, f"{folder}/{name}") for folder, found in files.items() for name in found]
    return {
        "mlflow_run": dg.MetadataValue.url(pages.run(experiment_id, run_id)),
        "pictures": links({name: pages.artifact(experiment_id, run_id, path) for name, path in names}),
    }


def links(addresses: Mapping[str, str]) -> dg.MarkdownMetadataValue:
    """Return links, one a line.

    Args:
        addresses: Address by what it shows.
    """
    return dg.MetadataValue.md("\n".join(f"- [{text}]({address})" for text, address in addresses.items()))


def rounded(value: float) -> float:
    """Return a number rounded to four significant digits, for display only; computations use exact values."""
    return float(f"{value:.4g}")


def reason_table(reasons: Mapping[str, int]) -> dg.MarkdownMetadataValue | None:
    """Return the number of rows set aside per reason code, as a Markdown table; None if there are none."""
    lines = ["| reason | rows |", "|---|---|", *(f"| {in_cell(code)} | {count:,} |" for code, count in reasons.items())]
    return dg.MetadataValue.md("\n".join(lines)) if reasons else None


def preview(table: pa.Table) -> dg.MarkdownMetadataValue:
    """Return the first rows and columns as a Markdown table."""
    head = table.slice(0, _PREVIEW_ROWS)
    names = head.column_names
    shown = names if len(names) <= _PREVIEW_COLUMNS else [*names[: _PREVIEW_COLUMNS - 3], "...", *names[-2:]]
    heads = [name if name == "..." else in_cell(name) for name in shown]
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(shown)]
    lines += [
        "| " + " | ".join("..." if name == "..." else _cell(row[name]) for name in shown) + " |"
        for row in head.to_pylist()
    ]
    return dg.MetadataValue.md("\n".join(lines))


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1 else f"{round(value, 3):.12g}"
    return str(value) if value is None or isinstance(value, int) else in_cell(value)
