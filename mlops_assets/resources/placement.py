"""Where each asset runs: the placement of a profile or a model, checked against the assets that exist.

What belongs here: checking a placement, where a job's steps run, and whether a step can reach its tables from there.
What does not: launching (`mlops_assets.databricks.launch`), which cost class an asset asks for (`assets`).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import dagster as dg

from mlops_assets.errors import SettingsError
from mlops_assets.resources.lakehouse import LakehouseResource

if TYPE_CHECKING:
    from mlops_assets.databricks.profile import Placement

CLUSTER_KEYS: Mapping[str, Literal["loader", "trials"]] = {"loader_cluster": "loader", "trials_cluster": "trials"}
# An asset's tag with its place, which `StepLauncherResource` follows.
PLACE_TAG = "mlops_assets/place"
_MOUNTS = {"/Volumes/": 5, "/dbfs/": 2}  # how many leading parts of a path name the mount


def check_placement(
    assets: Iterable[dg.AssetsDefinition], chosen: Mapping[str, Placement], *, where: str
) -> dict[str, str]:
    """Return the place of each placed asset by its name, without a model's prefix; assets of one step share it.

    Args:
        assets: All assets of a model.
        chosen: Place by asset name.
        where: What chose it, for errors.

    Raises:
        SettingsError: An asset is unknown or names no cluster, or assets of one step are placed apart.
    """
    steps = [(sorted(key.path[-1] for key in asset.keys), asset) for asset in assets]
    known = [name for names, _ in steps for name in names]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        guess = get_close_matches(unknown[0], known, n=1, cutoff=0.6)
        hint = f"is {guess[0]} meant? " if guess else ""
        raise SettingsError(
            f"placement names unknown assets: {', '.join(unknown)}",
            where=where,
            fix=f"{hint}the assets are {', '.join(known)}",
        )
    placed: dict[str, str] = {}
    for names, asset in steps:
        places = {name: chosen[name] for name in names if name in chosen}
        if not places:
            continue
        if len(set(places.values())) > 1:
            listed = ", ".join(f"{name}: {place}" for name, place in places.items())
            raise SettingsError(
                f"{', '.join(names)} are made by one step and placed apart ({listed})",
                where=where,
                fix="give them one place; naming one of them is enough",
            )
        if not CLUSTER_KEYS.keys() & asset.required_resource_keys:
            raise SettingsError(
                f"{', '.join(places)} can't be placed: it names no cluster and always runs where Dagster runs",
                where=where,
                fix=f"remove it from placement, or let the asset take {' or '.join(CLUSTER_KEYS)}",
            )
        placed |= dict.fromkeys(names, next(iter(places.values())))
    return placed


def places_of_steps(job: dg.JobDefinition) -> dict[str, str]:
    """Return where each step of a job that can be launched runs: a cost class or `local`, by step key."""
    layer = job.asset_layer
    places: dict[str, str] = {}
    for key in layer.executable_asset_keys:
        step = layer.get_op_output_handle(key).node_handle.name
        node = layer.get(key)
        named = CLUSTER_KEYS.keys() & node.assets_def.required_resource_keys
        if named:
            places[step] = node.tags.get(PLACE_TAG) or CLUSTER_KEYS[min(named)]
    return places


def cluster_starts(places: Iterable[str], reused: Collection[str]) -> int:
    """Return how many clusters steps start, one after another.

    Args:
        places: Where each runs.
        reused: Cost classes whose cluster waits for the next step.
    """
    launched = [place for place in places if place != "local"]
    return sum(place not in reused for place in launched) + len(set(launched) & set(reused))


def require_tables_here(lakehouse: object, *, assets: Iterable[str]) -> None:
    """Refuse to run a step here whose tables can only be reached from a cluster.

    Embedded Spark reads folders of this machine. It reads a catalog when its settings have a
    `spark.sql.catalog.<catalog>`.

    Args:
        lakehouse: The step's resource `lakehouse`; None if it has none.
        assets: Names of the step's assets.

    Raises:
        SettingsError: They can't be reached.
    """
    if not isinstance(lakehouse, LakehouseResource):
        return
    if lakehouse.catalog:
        reachable = lakehouse.catalog_here
        tables = f"its tables are in Unity Catalog ({lakehouse.catalog}.{lakehouse.schema_name})"
    else:
        mount = _mount(lakehouse.root)
        reachable = mount is None or mount.is_dir()
        tables = f"its tables are below {lakehouse.root}, and {mount} is not mounted here"
    if not reachable:
        names = ", ".join(assets)
        raise SettingsError(
            f"{names}: placed `local`, and {tables}",
            where="placement of the Databricks profile",
            fix=f"place it on a cluster (`loader` or `trials`), or take {names} out of placement; `local` is for "
            "assets that need no tables and for workspaces whose storage is mounted on this machine",
        )


def _mount(root: str) -> Path | None:
    """Return what must be mounted for a folder to exist, or None for a folder of this machine itself."""
    for prefix, parts in _MOUNTS.items():
        if root.startswith(prefix):
            return Path(*Path(root).parts[:parts])
    return None
