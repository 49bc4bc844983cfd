"""Where data begin: the sources of a model as external assets, which somebody else writes and sensors observe.

What belongs here: their specs, and what an observation says. What does not: reading a source (`sources`,
`label_sources`), seeing that there is something new (`automation/sensors`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import dagster as dg

from mlops_assets.assets.naming import key_of, stage_tag
from mlops_assets.assets.shell import reference_to
from mlops_assets.data.sources.locations import shown
from mlops_assets.lineage import DATA_VERSION_TAG
from mlops_assets.spec import CARDS, FraudModelSpec, SourceKind

if TYPE_CHECKING:
    from mlops_assets.assets.label_sources import LabelConfig
    from mlops_assets.assets.sources import InputConfig, SourceConfig

TRANSACTION_SOURCE = "transaction_source"
LABEL_SOURCE = "label_source"
_KINDS: Final[dict[SourceKind, str]] = {
    "synthetic": "python",
    "cards": "python",
    "openml": "openml",
    "files": "file",
    "stream": "file",
    "delta": "deltalake",
    "table": "deltalake",
}
_DIGITS = 16


def transactions_from(spec: FraudModelSpec) -> dg.AssetKey:
    """Return the asset that a model's transactions come from: its source, or an asset of the user's own."""
    return dg.AssetKey(spec.upstream) if spec.upstream else key_of(spec, TRANSACTION_SOURCE)


def labels_from(spec: FraudModelSpec) -> dg.AssetKey:
    """Return the asset that a model's late labels come from."""
    return transactions_from(spec) if spec.labels == CARDS else key_of(spec, LABEL_SOURCE)


def build_origins(spec: FraudModelSpec, source: SourceConfig, labels: LabelConfig | None) -> list[dg.AssetsDefinition]:
    """Return a model's sources as external assets.

    Args:
        spec: The model.
        source: Its source.
        labels: Where its late labels come from, if there are any.
    """
    found = []
    if not spec.upstream:
        text = "Where transactions come from; nothing here writes it."
        found.append(_origin(spec, transactions_from(spec), _KINDS[spec.source_kind], spec.source, source, text))
    if labels is not None and spec.labels not in (None, CARDS):
        text = "Where labels come from that become known after their transactions; nothing here writes it."
        found.append(_origin(spec, labels_from(spec), _KINDS["files"], spec.labels or "", labels, text))
    return found


def _origin(
    spec: FraudModelSpec, key: dg.AssetKey, kind: str, place: str, config: InputConfig, text: str
) -> dg.AssetsDefinition:
    return dg.AssetsDefinition(
        specs=[
            dg.AssetSpec(
                key,
                group_name=spec.group,
                kinds={kind},
                owners=list(spec.owners),
                tags=stage_tag("source"),
                description=text,
                metadata={"place": shown(place), **reference_to(type(config).open)},
            )
        ]
    )


def observation(key: dg.AssetKey, state: Iterable[str], description: str, **figures: Any) -> dg.AssetObservation:
    """Return what a sensor saw of a source.

    Args:
        key: The source.
        state: What identifies its state: the marks of its files, or the version of its table.
        description: What is new, in words.
        figures: Metadata.
    """
    version = hashlib.sha256("\n".join(sorted(state)).encode()).hexdigest()[:_DIGITS]
    return dg.AssetObservation(key, description=description, metadata=figures, tags={DATA_VERSION_TAG: version})
