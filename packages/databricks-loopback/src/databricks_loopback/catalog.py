"""Unity Catalog: catalogs, schemas, volumes and entries of tables, and who may not use them.

What belongs here: their registry. What does not: files in volumes (`api.files`), the rows of tables (Spark on the
machines has them), the REST API (`api.unity_catalog`).

Shapes: `databricks.sdk.service.catalog.VolumeInfo`, `TableInfo`, `SchemaInfo`, `CatalogInfo`. Everybody may use
everything until a test revokes it; messages are those of Unity Catalog ("User does not have SELECT on Table ...").
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from typing import Any, Literal, get_args

from databricks_loopback.clusters import now_ms
from databricks_loopback.storage import Storage, remove
from databricks_loopback.wire import ApiError

Privilege = Literal["USE SCHEMA", "SELECT", "READ VOLUME", "WRITE VOLUME", "CREATE MODEL"]
_KINDS: Mapping[str, str] = {"SELECT": "Table", "READ VOLUME": "Volume", "WRITE VOLUME": "Volume"}


class Catalog:
    """The metastore's three levels.

    Args:
        storage: Storage of the volumes.
        owner: Owner of everything that is created here.
    """

    def __init__(self, storage: Storage, owner: str) -> None:
        self._storage, self._owner = storage, owner
        self._catalogs: dict[str, dict[str, Any]] = {}
        self._schemas: dict[str, dict[str, Any]] = {}
        self._volumes: dict[str, dict[str, Any]] = {}
        self._tables: dict[str, dict[str, Any]] = {}
        self._revoked: set[tuple[str, str, str]] = set()
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

    def add_table(self, full_name: str, properties: Mapping[str, str] | None = None) -> dict[str, Any]:
        """Create the entry of a Delta table `catalog.schema.table`; its rows are Spark's.

        As on the platform, an entry changes with the table's definition and not when rows are written.

        Raises:
            ApiError: Its schema does not exist, or the table exists already.
        """
        catalog, schema, name = full_name.split(".")
        self.schema(f"{catalog}.{schema}")
        with self._lock:
            if full_name in self._tables:
                raise ApiError(409, "TABLE_ALREADY_EXISTS", f"Table '{full_name}' already exists")
            times = {"created_at": now_ms(), "created_by": self._owner, "updated_at": now_ms()}
            self._tables[full_name] = {
                "name": name,
                "catalog_name": catalog,
                "schema_name": schema,
                "full_name": full_name,
                "table_type": "MANAGED",
                "data_source_format": "DELTA",
                "table_id": str(uuid.uuid4()),
                "columns": [],
                "storage_location": f"loopback://{full_name}",
                "owner": self._owner,
                "properties": dict(properties or {}),
                **times,
            }
            return self._tables[full_name]

    def table(self, full_name: str) -> dict[str, Any]:
        """Return the entry of a table.

        Raises:
            ApiError: 404 TABLE_DOES_NOT_EXIST.
        """
        if full_name not in self._tables:
            raise ApiError(404, "TABLE_DOES_NOT_EXIST", f"Table '{full_name}' does not exist.")
        return self._tables[full_name]

    def tables(self, schema: str) -> list[dict[str, Any]]:
        """Return the entries of the tables of `catalog.schema`."""
        self.schema(schema)
        return [table for name, table in sorted(self._tables.items()) if name.startswith(f"{schema}.")]

    def revoke(self, privilege: Privilege, full_name: str, user: str) -> None:
        """Take a privilege on an object from a user; on a schema, what is in it can't be used either."""
        if privilege not in get_args(Privilege):
            raise ValueError(f"{privilege} is not emulated; use one of {', '.join(get_args(Privilege))}")
        self._revoked.add((privilege, full_name, user))

    def grant(self, privilege: Privilege, full_name: str, user: str) -> None:
        """Give a privilege back."""
        self._revoked.discard((privilege, full_name, user))

    def require(self, privilege: Privilege, full_name: str, user: str) -> None:
        """Check that a user may do something with an object.

        Raises:
            ApiError: 403 PERMISSION_DENIED.
        """
        schema = ".".join(full_name.split(".")[:2])
        for wanted, name in (("USE SCHEMA", schema), (privilege, full_name)):
            if (wanted, name, user) in self._revoked:
                kind = _KINDS.get(wanted, "Schema")
                raise ApiError(403, "PERMISSION_DENIED", f"User does not have {wanted} on {kind} '{name}'.")

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
