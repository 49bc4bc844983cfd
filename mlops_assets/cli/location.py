"""The code location that a command works with, and the model in it that `--model` names.

What belongs here: finding both. What does not: what a model consists of (`fraud_model`), and any import of Dagster
before a project is loaded: the model of the settings is known without one.

In the folder of a project that `dg` knows, or below it, that project is the code location. Anywhere else it is the
platform's own, with the one model that the settings describe.
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mlops_assets.errors import PlatformError, SettingsError

if TYPE_CHECKING:
    import dagster as dg

    from mlops_assets.settings import Settings
    from mlops_assets.spec import FraudModelSpec

OWN: Final = "mlops_assets.definitions"
ATTRIBUTE: Final = "defs"


@dataclass(frozen=True)
class Location:
    """A code location.

    Attributes:
        module: The module with its `defs`.
        folder: Folder that the module is imported from where it is not installed; None where it is.
    """

    module: str = OWN
    folder: Path | None = None

    def load(self) -> dg.Definitions:
        """Import the code location.

        Raises:
            SettingsError: There is no such module, or it has no `defs`.
            PlatformError: The settings or a model are invalid.
        """
        self.put_on_path()
        try:
            found: Any = getattr(importlib.import_module(self.module), ATTRIBUTE, None)
            # `@dg.definitions` makes a function of it.
            loaded = found() if callable(found) else found
        except ModuleNotFoundError as error:
            raise self._not_loaded(str(error)) from error
        except Exception as error:
            if readable := _readable(error):
                raise readable from error
            raise
        if loaded is None:
            raise self._not_loaded(f"it has no `{ATTRIBUTE}`")
        definitions: dg.Definitions = loaded
        return definitions

    def _not_loaded(self, why: str) -> SettingsError:
        return SettingsError(
            f"the project's definitions can't be loaded: {why}",
            where=self.module,
            fix=f"name the module with `{ATTRIBUTE}` in pyproject.toml, [tool.dg.project]; install what it imports",
        )

    def put_on_path(self) -> None:
        """Make the module importable from its folder."""
        if self.folder is not None and str(self.folder) not in sys.path:
            sys.path.insert(0, str(self.folder))

    def models(self, settings: Settings) -> tuple[FraudModelSpec, ...]:
        """Return its models.

        Raises:
            SettingsError: There is none.
            PlatformError: The settings or a model are invalid.
        """
        if self.module == OWN:
            return (settings.spec(),)
        loaded = self.load()
        from mlops_assets.fraud_model.factory import models_of

        models = models_of(loaded)
        if not models:
            raise SettingsError(
                "the project has no model",
                where=self.module,
                fix="add one (`dg scaffold defs mlops_assets.FraudModelComponent NAME`), or leave the project's folder "
                "to work with the model of the settings",
            )
        return models


@dataclass(frozen=True)
class Chosen:
    """A model of a code location."""

    location: Location
    spec: FraudModelSpec


def find_location(start: Path) -> Location:
    """Return the code location for a folder.

    Args:
        start: Absolute folder in which the command was started.

    Raises:
        SettingsError: The project's file can't be read.
    """
    for folder in (start, *start.parents):
        if project := _project(folder):
            root = str(project.get("root_module", ""))
            module = str(project.get("code_location_target_module") or f"{root}.definitions")
            top = module.partition(".")[0]
            places = [place for place in (folder / "src", folder) if (place / top).is_dir()]
            return Location(module, None if module == OWN or not places else places[0])
    return Location()


def _project(folder: Path) -> dict[str, Any]:
    """Return a folder's description of a project for `dg`; empty if it has none."""
    for name, keys in (("dg.toml", ("project",)), ("pyproject.toml", ("tool", "dg", "project"))):
        path = folder / name
        if not path.is_file():
            continue
        try:
            found: Any = tomllib.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise SettingsError(f"the file can't be read: {error}", where=str(path), fix="correct it") from error
        for key in keys:
            found = found.get(key, {})
        if found:
            return dict(found)
    return {}


def choose(settings: Settings, model: str | None, location: Location | None = None) -> Chosen:
    """Return the model that a command is for.

    Args:
        settings: The settings from the environment.
        model: Its name, its name in the registry, or that of its database; None where there is only one.
        location: Its code location; by default that of the current folder.

    Raises:
        SettingsError: There is no such model, or there are several and none is named.
        PlatformError: The code location can't be loaded.
    """
    there = location or find_location(Path.cwd())
    models = there.models(settings)
    if model is None and len(models) == 1:
        return Chosen(there, models[0])
    # A model's own name comes first: another's database may have the same.
    for names in ([spec.name for spec in models], [spec.database for spec in models], _registered(models)):
        if model and model in names:
            return Chosen(there, models[names.index(model)])
    if there.module == OWN:
        configured = models[0].registered_model
        raise SettingsError(
            f"there is no model {model!r}; the settings define one model, {configured}",
            where="--model",
            fix=f"use --model {configured}, leave it out, or change the settings that name the model (MLOPS_CONTRACT, "
            "MLOPS_SOURCE, MLOPS_MODEL_NAME)",
        )
    titles = ", ".join(spec.title for spec in models)
    what = f"there are {len(models)} models" if model is None else f"there is no model {model!r} in {there.module}"
    raise SettingsError(what, where="--model", fix=f"use --model with one of: {titles}")


def _registered(models: Sequence[FraudModelSpec]) -> list[str]:
    return [spec.registered_model for spec in models]


def _readable(error: BaseException) -> PlatformError | None:
    """Return the platform's own error behind one of Dagster's, which wraps whatever a project's loading raises."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, PlatformError):
        cause = cause.__cause__ or cause.__context__
    return cause
