"""The loading asset of the platform, handed over to Pipes where its cluster is a runner."""

from collections.abc import Iterator
from typing import Any, cast

import dagster as dg

from mlops_assets.assets.raw_transactions import RAW, IngestConfig, raw_transactions
from mlops_assets.resources.contract import ContractResource
from mlops_assets.resources.lakehouse import Lakehouse
from mlops_assets.resources.sources import TransactionSourceResource

_load = cast("Any", raw_transactions.op.compute_fn).decorated_fn


@dg.multi_asset(name=RAW, specs=list(raw_transactions.specs), check_specs=list(raw_transactions.check_specs))
def piped_transactions(
    context: dg.AssetExecutionContext,
    config: IngestConfig,
    source: TransactionSourceResource,
    contract: ContractResource,
    lakehouse: Lakehouse,
    loader_cluster: dg.ResourceParam[Any],
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    """Load, here or there."""
    # The parameter is the resource itself; what it stands for is in the context.
    runner = context.resources.loader_cluster
    if runner is not None:
        yield from runner.run(context)
        return
    yield from _load(context, config=config, source=source, contract=contract, lakehouse=lakehouse, loader_cluster=None)
