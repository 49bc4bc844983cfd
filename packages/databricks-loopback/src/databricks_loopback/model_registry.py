"""Models in Unity Catalog: names of three levels, versions, aliases.

What belongs here: the registered models, and what the registry rejects. What does not: the REST API
(`api.model_registry`), the versions' files (`api.files`).

Shapes: `mlflow.protos.databricks_uc_registry_messages_pb2`, `RegisteredModel` and `ModelVersion`. Unity Catalog answers
`ALREADY_EXISTS` and `NOT_FOUND` where MLflow's own registry answers `RESOURCE_ALREADY_EXISTS` and
`RESOURCE_DOES_NOT_EXIST`; MLflow's client expects both (`mlflow.tracking._model_registry.fluent`).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from typing import Any

from databricks_loopback.catalog import Catalog
from databricks_loopback.clusters import now_ms
from databricks_loopback.storage import Storage
from databricks_loopback.wire import ApiError, invalid, missing

_FILTER = re.compile(r"\s*(?P<field>name|run_id)\s*=\s*'(?P<value>[^']*)'\s*")
_LEVELS = 3  # catalog.schema.model
_RESERVED = ".,-=/:"
_LONGEST_TAG = 1000  # "Apply tags to Unity Catalog securable objects", constraints
_FROM_REQUEST = ("source", "run_id", "description", "run_tracking_server_id", "tags", "model_id")


class ModelRegistry:
    """The registered models.

    Args:
        catalog: The schemas.
        storage: Storage of the versions' files.
    """

    def __init__(self, catalog: Catalog, storage: Storage) -> None:
        self._catalog, self._storage = catalog, storage
        self._models: dict[str, dict[str, Any]] = {}
        self._versions: dict[tuple[str, str], dict[str, Any]] = {}
        self._lock = threading.Lock()

    def create(self, name: str, user: str, description: str) -> dict[str, Any]:
        """Create a model.

        Raises:
            ApiError: Its name does not have three levels, its schema does not exist, or the model exists already.
        """
        levels = name.split(".")
        if len(levels) != _LEVELS or not all(levels):
            raise invalid(f"'{name}' is not a valid name; please specify all three levels of the model in the form")
        self._catalog.schema(".".join(levels[:2]))
        with self._lock:
            if name in self._models:
                raise ApiError(409, "ALREADY_EXISTS", f"Registered model '{name}' already exists")
            times = {"creation_timestamp": now_ms(), "last_updated_timestamp": now_ms()}
            self._models[name] = {"name": name, "user_id": user, "description": description, "aliases": [], **times}
            return self._models[name]

    def model(self, name: str) -> dict[str, Any]:
        """Return a model; ApiError RESOURCE_DOES_NOT_EXIST if it does not exist."""
        if name not in self._models:
            raise missing(f"Registered model '{name}' does not exist")
        return self._models[name]

    def delete(self, name: str) -> None:
        """Remove a model with its versions; ApiError RESOURCE_DOES_NOT_EXIST if it does not exist."""
        self.model(name)
        with self._lock:
            del self._models[name]
            for key in [key for key in self._versions if key[0] == name]:
                del self._versions[key]

    def create_version(self, request: Mapping[str, Any], user: str) -> dict[str, Any]:
        """Create the next version of a model, which is pending until its files are uploaded.

        Raises:
            ApiError: There is no such model, or a tag is not accepted.
        """
        name = str(request["name"])
        self.model(name)
        for tag in request.get("tags", []):
            self._check_tag(tag["key"], tag.get("value", ""))
        with self._lock:
            number = str(1 + sum(1 for model, _ in self._versions if model == name))
            self._versions[name, number] = {
                "name": name,
                "version": number,
                "user_id": user,
                "status": "PENDING_REGISTRATION",
                "creation_timestamp": now_ms(),
                "last_updated_timestamp": now_ms(),
                "storage_location": f"loopback://models/{name}/{number}",
                **{field: request[field] for field in _FROM_REQUEST if field in request},
            }
            return self._versions[name, number]

    def finalize(self, name: str, number: str) -> dict[str, Any]:
        """Make a version READY once its files are uploaded.

        Raises:
            ApiError: There is no model among its files.
        """
        version = self._version(name, number)
        if not (self._storage.internal / "Models" / name.replace(".", "/") / number / "MLmodel").is_file():
            raise invalid(f"Version {number} of '{name}' has no MLmodel file")
        version["status"] = "READY"
        return version

    def version(self, name: str, number: str) -> dict[str, Any]:
        """Return a version with its aliases; ApiError RESOURCE_DOES_NOT_EXIST if it does not exist."""
        aliases = [item for item in self.model(name)["aliases"] if str(item["version"]) == number]
        return {**self._version(name, number), "aliases": aliases}

    def describe(self, name: str, number: str, description: str) -> dict[str, Any]:
        """Set the description of a version; ApiError RESOURCE_DOES_NOT_EXIST if it does not exist."""
        self._version(name, number)["description"] = description
        return self.version(name, number)

    def set_tag(self, name: str, number: str, key: str, value: str) -> None:
        """Set a tag of a model, or of a version.

        Args:
            name: The model.
            number: The version; empty for the model.
            key: The tag.
            value: Its value.

        Raises:
            ApiError: There is no such model or version, or the tag's name or value is not accepted.
        """
        self._check_tag(key, value)
        tags = self._tags(name, number)
        with self._lock:
            tags[:] = [*(tag for tag in tags if tag["key"] != key), {"key": key, "value": value}]

    def delete_tag(self, name: str, number: str, key: str) -> None:
        """Remove a tag of a model, or of a version; nothing happens if it has none."""
        tags = self._tags(name, number)
        with self._lock:
            tags[:] = [tag for tag in tags if tag["key"] != key]

    def delete_alias(self, name: str, alias: str) -> None:
        """Remove an alias; nothing happens if there is none."""
        model = self.model(name)
        with self._lock:
            model["aliases"] = [item for item in model["aliases"] if item["alias"] != alias]

    def _tags(self, name: str, number: str) -> list[dict[str, str]]:
        owner = self._version(name, number) if number else self.model(name)
        tags: list[dict[str, str]] = owner.setdefault("tags", [])
        return tags

    @staticmethod
    def _check_tag(key: str, value: str) -> None:
        if set(key) & set(_RESERVED):
            listed = ", ".join(_RESERVED)
            raise invalid(f"Tag name {key} contains one or more of the reserved characters: List({listed})")
        if len(value) > _LONGEST_TAG or value != value.strip():
            raise invalid(f"Tag value for {key} is longer than {_LONGEST_TAG} characters, or has spaces around it")

    def search(self, condition: str) -> list[dict[str, Any]]:
        """Return the versions of a model or of a run, newest first.

        Raises:
            ApiError: There is more than one condition, or an unsupported one.
        """
        match = _FILTER.fullmatch(condition)
        if match is None:
            raise invalid(f"Unsupported filter '{condition}': only one of name = '...' and run_id = '...' is supported")
        fitting = [item for item in self._versions.values() if item.get(match["field"]) == match["value"]]
        return sorted(fitting, key=lambda item: -int(item["version"]))

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Point an alias at a version."""
        self._version(name, number)
        with self._lock:
            others = [item for item in self.model(name)["aliases"] if item["alias"] != alias]
            self._models[name]["aliases"] = [*others, {"alias": alias, "version": number}]

    def by_alias(self, name: str, alias: str) -> dict[str, Any]:
        """Return the version of an alias; ApiError NOT_FOUND if there is none."""
        for item in self.model(name)["aliases"]:
            if item["alias"] == alias:
                return self.version(name, str(item["version"]))
        raise ApiError(404, "NOT_FOUND", f"Alias '{alias}' of registered model '{name}' does not exist")

    def _version(self, name: str, number: str) -> dict[str, Any]:
        try:
            return self._versions[name, number]
        except KeyError:
            raise ApiError(
                404, "RESOURCE_DOES_NOT_EXIST", f"Version {number} of registered model '{name}' does not exist"
            ) from None
