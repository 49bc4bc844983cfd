"""Unity Catalog API 2.1: catalogs, schemas, volumes and entries of tables.

What belongs here: the calls that jobs on volumes and watchers of tables need (reference: "Catalogs", "Schemas",
"Volumes", "Tables"). What does not: the registry (`catalog`), the Grants API.
"""

from __future__ import annotations

from collections.abc import Mapping

from databricks.sdk.service.catalog import SchemasAPI, VolumesAPI

from databricks_loopback.catalog import Catalog
from databricks_loopback.routing import Route
from databricks_loopback.schema import check_call
from databricks_loopback.wire import Reply, Request, not_emulated


class UnityCatalogApi:
    """The Unity Catalog endpoints.

    Args:
        catalog: The registry.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        base = "/api/2.1/unity-catalog"
        return [
            Route("GET", f"{base}/catalogs", self._catalogs),
            Route("GET", f"{base}/catalogs/{{name}}", self._get_catalog),
            Route("GET", f"{base}/schemas", self._schemas),
            Route("POST", f"{base}/schemas", self._create_schema),
            Route("GET", f"{base}/schemas/{{name}}", self._get_schema),
            Route("GET", f"{base}/volumes", self._volumes),
            Route("POST", f"{base}/volumes", self._create_volume),
            Route("GET", f"{base}/volumes/{{name}}", self._get_volume),
            Route("DELETE", f"{base}/volumes/{{name}}", self._delete_volume),
            Route("GET", f"{base}/tables", self._tables),
            Route("GET", f"{base}/tables/{{name}}", self._get_table),
        ]

    def _catalogs(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"catalogs": self._catalog.catalogs()})

    def _get_catalog(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        return Reply.of(self._catalog.catalog(parts["name"]))

    def _schemas(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"schemas": self._catalog.schemas(request.required("catalog_name"))})

    def _create_schema(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, SchemasAPI.create)
        self._catalog.catalog(document["catalog_name"])
        full_name = f"{document['catalog_name']}.{document['name']}"
        self._catalog.add_schema(full_name)
        return Reply.of(self._catalog.schema(full_name))

    def _get_schema(self, request: Request, parts: Mapping[str, str]) -> Reply:
        self._catalog.require("USE SCHEMA", parts["name"], request.user)
        return Reply.of(self._catalog.schema(parts["name"]))

    def _volumes(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        schema = f"{request.required('catalog_name')}.{request.required('schema_name')}"
        return Reply.of({"volumes": self._catalog.volumes(schema)})

    def _create_volume(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        document = request.document()
        check_call(document, VolumesAPI.create)
        if document["volume_type"] == "EXTERNAL":
            raise not_emulated("external volumes")
        full_name = f"{document['catalog_name']}.{document['schema_name']}.{document['name']}"
        return Reply.of(self._catalog.add_volume(full_name, document["volume_type"], document.get("comment") or ""))

    def _get_volume(self, request: Request, parts: Mapping[str, str]) -> Reply:
        self._catalog.require("READ VOLUME", parts["name"], request.user)
        return Reply.of(self._catalog.volume(parts["name"]))

    def _delete_volume(self, _request: Request, parts: Mapping[str, str]) -> Reply:
        self._catalog.drop_volume(parts["name"])
        return Reply.of({})

    def _tables(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        schema = f"{request.required('catalog_name')}.{request.required('schema_name')}"
        self._catalog.require("USE SCHEMA", schema, request.user)
        return Reply.of({"tables": self._catalog.tables(schema)})

    def _get_table(self, request: Request, parts: Mapping[str, str]) -> Reply:
        self._catalog.require("SELECT", parts["name"], request.user)
        return Reply.of(self._catalog.table(parts["name"]))
