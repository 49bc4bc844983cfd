"""What runs have cost: the billed usage of a workspace by the tags that each launch sets.

What belongs here: the statement, and how its rows are shown. What does not: running it (`errand`), the tags
(`databricks.launch.attempt`).

Tables and columns: "Billable usage system table reference" and "Pricing system table reference" of Databricks. Usage is
in DBUs; corrections are rows of their own, whose sum is right. Prices are list prices, without the discounts of an
account. The cloud's own bill for machines is in none of these tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.databricks.preflight import Finding
from mlops_assets.diagnostics.errand import run_errand
from mlops_assets.errors import LaunchError, SettingsError

if TYPE_CHECKING:
    from mlops_assets.databricks.profile import DatabricksProfile

USAGE: Final = "system.billing.usage"
PRICES: Final = "system.billing.list_prices"
DAYS: Final = 30
# A price holds from its start until its end; without an end it is today's.
_STATEMENT: Final = """
SELECT usage.custom_tags['asset'] AS asset,
       usage.custom_tags['dagster_run'] AS run,
       CAST(min(usage.usage_start_time) AS STRING) AS started,
       CAST(sum(usage.usage_quantity) AS DOUBLE) AS dbus,
       CAST(sum(usage.usage_quantity * prices.pricing.effective_list.default) AS DOUBLE) AS money,
       max(prices.currency_code) AS currency
FROM {usage} AS usage
LEFT JOIN {prices} AS prices
  ON prices.sku_name = usage.sku_name AND prices.cloud = usage.cloud AND prices.usage_unit = usage.usage_unit
 AND prices.price_start_time <= usage.usage_end_time
 AND (prices.price_end_time IS NULL OR prices.price_end_time > usage.usage_end_time)
WHERE usage.custom_tags['dagster_run'] IS NOT NULL
  AND usage.usage_date >= date_sub(current_date(), {days})
GROUP BY ALL
ORDER BY started DESC, asset
"""


def statement(*, usage: str = USAGE, prices: str = PRICES, days: int = DAYS) -> str:
    """Return the SQL statement: a row for each asset and Dagster run of the last days.

    Columns: `asset` and `run`, as the tags have them; `started`, text; `dbus`; `money`, null without a price;
    `currency`.
    """
    return _STATEMENT.format(usage=usage, prices=prices, days=days)


def cost(
    profile: DatabricksProfile, credentials: Mapping[str, str], *, usage: str = USAGE, prices: str = PRICES
) -> Iterator[Finding]:
    """Ask a workspace what runs have cost, and yield a line for each asset and run, and their sums.

    It starts one cluster of loaders, so this asking shows up in a later answer as well (without an asset).

    Args:
        profile: The Databricks environment.
        credentials: By the names of databricks-sdk; if empty, the SDK looks for them.
        usage: Name of the table of billed usage.
        prices: Name of the table of list prices.
    """
    request = {"checks": ["query"], "statement": statement(usage=usage, prices=prices)}
    try:
        answer = run_errand(profile, credentials, "mlops_cost", request)["checks"]["query"]
    except (LaunchError, SettingsError) as error:
        yield Finding("error", "cost", f"{error.what} [{error.where}]; {error.fix}")
        return
    if answer["level"] != "ok":
        fix = f"grant SELECT on {usage} and {prices} to the identity that runs the cluster"
        yield Finding("error", "cost", f"{answer['text']}; {fix}")
        return
    yield from summarize(answer["rows"])


def summarize(rows: Iterable[Mapping[str, Any]]) -> Iterator[Finding]:
    """Yield a line for each row of the statement, one for each asset, and one for all."""
    listed = list(rows)
    if not listed:
        yield Finding(
            "ok", "cost", f"nothing was billed for a launch in the last {DAYS} days (usage comes hours later)"
        )
        return
    for row in listed:
        yield Finding("ok", f"{row['asset'] or 'no asset'} in run {row['run']}", _amount([row]))
    for asset in sorted({str(row["asset"] or "no asset") for row in listed}):
        of_asset = [row for row in listed if str(row["asset"] or "no asset") == asset]
        runs = len({row["run"] for row in of_asset})
        yield Finding("ok", f"{asset} in {runs} runs", _amount(of_asset))
    yield Finding("ok", f"all in {DAYS} days", _amount(listed))


def _amount(rows: list[Mapping[str, Any]]) -> str:
    dbus = f"{sum(float(row['dbus']) for row in rows):.2f} DBU"
    priced = [row for row in rows if row["money"] is not None]
    sums = {
        str(currency): sum(float(row["money"]) for row in priced if row["currency"] == currency)
        for currency in dict.fromkeys(row["currency"] for row in priced)
    }
    money = " + ".join(f"{amount:.2f} {currency}" for currency, amount in sums.items())
    missing = len(rows) - len(priced)
    return ", ".join([*([money] if money else []), dbus, *([f"{missing} without a list price"] if missing else [])])
