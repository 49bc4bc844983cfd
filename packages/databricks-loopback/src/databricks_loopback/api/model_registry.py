"""Models in Unity Catalog, as MLflow's client calls them with the registry `databricks-uc`.

What belongs here: the calls for registering, searching, aliasing and loading
(`mlflow.protos.databricks_uc_registry_service_pb2`). What does not: the models (`model_registry`).

Files of versions are transferred by the Files API, which the platform announces by the flag in `_files_by_sdk`; storage
credentials of the cloud are not emulated.
"""

from __future__ import annotations

from collections.abc import Mapping

from databricks_loopback.model_registry import ModelRegistry
from databricks_loopback.routing import Route
from databricks_loopback.wire import Reply, Request, not_emulated

_BASE = "/api/2.0/mlflow/unity-catalog"


class ModelRegistryApi:
    """The endpoints of the registry.

    Args:
        registry: The models.
    """

    def __init__(self, registry: ModelRegistry) -> None:
        self._registry = registry

    def routes(self) -> list[Route]:
        """Return the endpoints."""
        models, versions = f"{_BASE}/registered-models", f"{_BASE}/model-versions"
        by_sdk = f"{models}:is-databricks-sdk-models-artifact-repository-enabled"
        other = [Route(verb, f"{_BASE}{{path}}", _other) for verb in ("GET", "POST", "PATCH", "DELETE")]
        return [
            Route("POST", f"{models}/create", self._create),
            Route("GET", f"{models}/get", self._get),
            Route("DELETE", f"{models}/delete", self._delete),
            Route("POST", f"{models}/alias", self._set_alias),
            Route("GET", f"{models}/alias", self._by_alias),
            Route("DELETE", f"{models}/alias", self._delete_alias),
            Route("POST", f"{models}/set-tag", self._set_tag),
            Route("DELETE", f"{models}/delete-tag", self._delete_tag),
            Route("POST", f"{versions}/set-tag", self._set_tag),
            Route("DELETE", f"{versions}/delete-tag", self._delete_tag),
            Route("GET", by_sdk, self._files_by_sdk),
            Route("POST", f"{versions}/create", self._create_version),
            Route("POST", f"{versions}/finalize", self._finalize),
            Route("GET", f"{versions}/get", self._version),
            Route("PATCH", f"{versions}/update", self._describe),
            Route("GET", f"{versions}/search", self._search),
            Route("POST", f"{versions}/emit-lineage", self._emit_lineage),
            *other,
        ]

    def _create(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        made = self._registry.create(str(body.get("name", "")), request.user, str(body.get("description", "")))
        return Reply.of({"registered_model": made})

    def _delete(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        self._registry.delete(str(request.document().get("name", "")))
        return Reply.of({})

    def _get(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"registered_model": self._registry.model(request.required("name"))})

    def _set_alias(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        self._registry.set_alias(body["name"], body["alias"], str(body["version"]))
        return Reply.of({})

    def _delete_alias(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        self._registry.delete_alias(body["name"], body["alias"])
        return Reply.of({})

    def _set_tag(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        self._registry.set_tag(body["name"], str(body.get("version", "")), body["key"], str(body.get("value", "")))
        return Reply.of({})

    def _delete_tag(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        self._registry.delete_tag(body["name"], str(body.get("version", "")), body["key"])
        return Reply.of({})

    def _by_alias(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        version = self._registry.by_alias(request.required("name"), request.required("alias"))
        return Reply.of({"model_version": version})

    def _files_by_sdk(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"is_databricks_sdk_models_artifact_repository_enabled": True})

    def _create_version(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"model_version": self._registry.create_version(request.document(), request.user)})

    def _finalize(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        return Reply.of({"model_version": self._registry.finalize(body["name"], str(body["version"]))})

    def _version(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        version = self._registry.version(request.required("name"), request.required("version"))
        return Reply.of({"model_version": version})

    def _describe(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        body = request.document()
        described = self._registry.describe(body["name"], str(body["version"]), str(body.get("description", "")))
        return Reply.of({"model_version": described})

    def _search(self, request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({"model_versions": self._registry.search(request.required("filter"))})

    def _emit_lineage(self, _request: Request, _parts: Mapping[str, str]) -> Reply:
        return Reply.of({})


def _other(request: Request, _parts: Mapping[str, str]) -> Reply:
    raise not_emulated(f"{request.method} {request.path}")
