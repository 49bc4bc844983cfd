"""Unity Catalog: catalogs, schemas and volumes.

What belongs here: their registry. What does not: files in volumes (`api.files`), tables (Spark on the machines has
them), the REST API (`api.unity_catalog`).

Shapes: `databricks.sdk.service.catalog.VolumeInfo`, `SchemaInfo`, `CatalogInfo`.
"""

from __future__ import annotations

import threading
import uuid
from typing import Any

from databricks_loopback.clusters import now_ms
from databricks_loopback.storage import Storage, remove
from databricks_loopback.wire import ApiError


class Catalog:
    """The metastore's three levels, without tables.

    Args:
        storage: Storage of the volumes.
        owner: Owner of everything that is created here.
    """

    def __init__(self, storage: Storage, owner: str) -> None:
        self._storage, self._owner = storage, owner
        self._catalogs: dict[str, dict[str, Any]] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        self._volumes: dict[str, dict[str, Any]] = {}
        self._lock = threading.Lock()

    def add_schema(self, full_name: str) -> None:
        """Create a schema `catalog.schema`, and its catalog, unless they exist."""
        catalog, schema = full_name.split(".")
        common = {"owner": self._owner, "created_at": now_ms(), "updated_at": now_ms()}
        with self._lock:
            self._catalogs.setdefault(catalog, {"name": catalog, "catalog_type": "MANAGED_CATALOG", **common})
            names = {"name": schema, "catalog_name": catalog, "full_name": full_name}
            self._schemas.setdefault(full_name, {**names, **common})

    def add_volume(self, full_name: str, volume_type: str = "MANAGED", comment: str = "") -> dict[str, Any]:
        """Create a volume `catalog.schema.volume` with its folder.

        Raises:
            ApiError: Its schema does not exist, or the volume exists already.
        """
        catalog, schema, name = full_name.split(".")
        self.schema(f"{catalog}.{schema}")
        with self._lock:
            if full_name in self._volumes:
                raise ApiError(409, "RESOURCE_ALREADY_EXISTS", f"Volume '{full_name}' already exists")
            self._volumes[full_name] = {
                "name": name,
                "catalog_name": catalog,
                "schema_name": schema,
                "full_name": full_name,
                "volume_type": volume_type,
                "volume_id": str(uuid.uuid4()),
                "storage_location": f"loopback://{full_name}",
                "owner": self._owner,
                "created_at": now_ms(),
                "created_by": self._owner,
                "updated_at": now_ms(),
                "updated_by": self._owner,
                **({"comment": comment} if comment else {}),
            }
        self._storage.in_volumes(f"/Volumes/{catalog}/{schema}/{name}").mkdir(parents=True, exist_ok=True)
        return self._volumes[full_name]

    def drop_volume(self, full_name: str) -> None:
        """Remove a volume with its files; errors as in `volume`."""
        self.volume(full_name)
        with self._lock:
            del self._volumes[full_name]
        remove(self._storage.in_volumes("/Volumes/" + full_name.replace(".", "/")))

    def volume(self, full_name: str) -> dict[str, Any]:
        """Return a volume.

        Raises:
            ApiError: 404 VOLUME_DOES_NOT_EXIST.
        """
        if full_name not in self._volumes:
            raise ApiError(404, "VOLUME_DOES_NOT_EXIST", f"Volume '{full_name}' does not exist.")
        return self._volumes[full_name]

    def volumes(self, schema: str) -> list[dict[str, Any]]:
        """Return the volumes of `catalog.schema`."""
        self.schema(schema)
        return [volume for name, volume in sorted(self._volumes.items()) if name.startswith(f"{schema}.")]

    def schema(self, full_name: str) -> dict[str, Any]:
        """Return a schema.

        Raises:
            ApiError: 404 SCHEMA_DOES_NOT_EXIST.
        """
        if full_name not in self._schemas:
            raise ApiError(404, "SCHEMA_DOES_NOT_EXIST", f"Schema '{full_name}' does not exist.")
        return self._schemas[full_name]

    def schemas(self, catalog: str) -> list[dict[str, Any]]:
        """Return the schemas of a catalog."""
        self.catalog(catalog)
        return [schema for name, schema in sorted(self._schemas.items()) if name.startswith(f"{catalog}.")]

    def names_of_schemas(self, catalog: str) -> list[str]:
        """Return the names of a catalog's schemas, without the catalog's own; none if it does not exist."""
        return sorted(item["name"] for item in self._schemas.values() if item["catalog_name"] == catalog)

    def catalog(self, name: str) -> dict[str, Any]:
        """Return a catalog.

        Raises:
            ApiError: 404 CATALOG_DOES_NOT_EXIST.
        """
        if name not in self._catalogs:
            raise ApiError(404, "CATALOG_DOES_NOT_EXIST", f"Catalog '{name}' does not exist.")
        return self._catalogs[name]

    def catalogs(self) -> list[dict[str, Any]]:
        """Return all catalogs."""
        return [self._catalogs[name] for name in sorted(self._catalogs)]
