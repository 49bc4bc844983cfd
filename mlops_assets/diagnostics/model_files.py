"""`mlops verify`: are registered versions what was registered, and do aliases and the ledger of champions agree?

What belongs here: looking at one model's versions, read-only. What does not: how a version is verified
(`registry/verified`), the ledger's chain (`registry/ledger`), tables (`consistency`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlops_assets.databricks.preflight import Finding
from mlops_assets.errors import LedgerError, TrackingError

if TYPE_CHECKING:
    from mlops_assets.registry.alias_moves import ChampionLedger


def verify_models(title: str, ledger: ChampionLedger, *, every: bool) -> list[Finding]:
    """Return the findings on a model's registered versions; none if it has none.

    Args:
        title: The model, as findings name it.
        ledger: Its alias and ledger.
        every: Whether to load every version, instead of those with an alias.
    """
    from mlops_assets.registry.ledger import NOBODY
    from mlops_assets.registry.versions import CHALLENGER, CHAMPION, all_versions, by_alias

    store, name, subject = ledger.store, ledger.name, f"models of {title}"
    try:
        with store.answering():
            numbers = sorted(version.number for version in all_versions(store, name))
            # The last one counts where a version has both.
            aliases = {alias: by_alias(store, name, alias) for alias in (CHALLENGER, CHAMPION)}
        entries = ledger.require_registry()
    except (LedgerError, TrackingError) as error:
        return [Finding("error", subject, str(error))]
    named = {version.number: alias for alias, version in aliases.items() if version is not None}
    findings = [
        finding
        for number in numbers
        if every or number in named
        for finding in _of_version(subject, ledger, number, named.get(number, ""))
    ]
    champion = next((number for number, alias in named.items() if alias == CHAMPION), NOBODY)
    known = entries[-1].to_version if entries else champion
    if known != champion:
        text = f"another client made version {champion or 'none'} champion; by the ledger it is {known or 'none'}"
        findings.append(Finding("warning", subject, f"{text}. Fix: `mlops champion` shows both"))
    if numbers and not findings:
        which = "all" if every else "those with an alias"
        text = f"{len(numbers)} versions, {which} as registered; champion: {champion or 'none'}"
        findings.append(Finding("ok", subject, text))
    return findings


def _of_version(subject: str, ledger: ChampionLedger, number: int, alias: str) -> list[Finding]:
    from mlops_assets.registry.verified import UnnotedVersionError, load_verified

    try:
        load_verified(ledger.store, ledger.name, number)
    except UnnotedVersionError as error:
        return [Finding("warning", subject, str(error))]
    except TrackingError as error:
        text = f"{alias}: {error}" if alias else str(error)
        if alias == "champion":
            text += "; `mlops rollback` makes the last good champion champion again"
        return [Finding("error", subject, text)]
    return []
