"""The document of a profile before it is validated, and what is wrong with it in words.

What belongs here: reading the YAML, overrides by environment variables, the messages of a refused document. What does
not: the fields and their rules (`profile`, `cluster`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import Any, Final

import yaml
from pydantic import ValidationError

from mlops_assets.databricks.credentials import refuse_credentials
from mlops_assets.errors import SettingsError

SHIPPED: Final = ("dev", "staging", "prod")
PREFIX: Final = "MLOPS_DATABRICKS_"

# Names the profile; not a field of it.
_SELECTOR = f"{PREFIX}PROFILE"


def read_document(
    name_or_path: str | Path, environ: Mapping[str, str], fields: Iterable[str]
) -> tuple[str, dict[str, Any]]:
    """Return what the document is called in errors, and its content with the overrides on top.

    Args:
        name_or_path: A shipped profile, or the path of a YAML file.
        environ: Variables; see `profile.load_profile`.
        fields: Names of a profile's fields.

    Raises:
        SettingsError: There is no such document, it is not YAML, a variable names no field, or there are credentials.
    """
    where, text = _text(name_or_path)
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise SettingsError("not valid YAML", where=where, fix=str(error).replace("\n", " ")) from None
    if not isinstance(document, dict):
        raise SettingsError("not a mapping of fields", where=where, fix="see mlops_assets/databricks/profiles/dev.yaml")
    refuse_credentials(document, where)
    for name, value in sorted(environ.items()):
        if name.startswith(PREFIX) and name != _SELECTOR and value:
            _override(document, name, value, set(fields))
    return where, document


def refused_document(error: ValidationError, where: str) -> SettingsError:
    """Return the error for a document that breaks a rule, without the values, among which a secret may be."""
    return SettingsError("; ".join(_problems(error)), where=where, fix=_fix_of(error))


def _text(name_or_path: str | Path) -> tuple[str, str]:
    name = str(name_or_path)
    if name.startswith("{"):  # the document itself, which a step on a cluster receives: JSON is YAML
        return "profile from the launching side", name
    if name in SHIPPED:
        return f"profile {name}", (resources.files("mlops_assets.databricks") / "profiles" / f"{name}.yaml").read_text(
            "utf-8"
        )
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        raise SettingsError(
            f"no profile {name!r}", where="profile", fix=f"use one of {', '.join(SHIPPED)}, or the path of a YAML file"
        )
    try:
        return f"profile {path}", path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(
            f"can't be read: {reason}", where=f"profile {path}", fix=f"name one of {', '.join(SHIPPED)}, or a file"
        ) from error


def _override(document: dict[str, Any], name: str, text: str, fields: set[str]) -> None:
    parts = name.removeprefix(PREFIX).split("__")
    # The keys of `secrets` are names of variables, which keep their case.
    path = [parts[0].lower(), *(parts[1:] if parts[0] == "SECRETS" else [part.lower() for part in parts[1:]])]
    refuse_credentials({path[-1]: text}, name, ".".join(path[:-1]))
    if path[0] not in fields:
        guess = get_close_matches(path[0], fields, n=1, cutoff=0.6)
        fix = f"did you mean {PREFIX}{guess[0].upper()}?" if guess else f"the fields are {', '.join(sorted(fields))}"
        raise SettingsError(f"{path[0]} is not a field of a profile", where=name, fix=fix)
    value: Any = None if text == "null" else text
    if text.startswith(("{", "[")):
        try:
            value = yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise SettingsError("not valid YAML", where=name, fix=str(error).replace("\n", " ")) from None
        refuse_credentials(value, name)
    target = document
    for part in path[:-1]:
        inner = target.get(part)
        target[part] = dict(inner) if isinstance(inner, Mapping) else {}
        target = target[part]
    target[path[-1]] = value


def _problems(error: ValidationError) -> list[str]:
    problems = []
    for item in error.errors():
        place = ".".join(str(part) for part in item["loc"])
        message = item["msg"].removeprefix("Value error, ")
        problems.append(f"{place}: {message}" if place else message)
    return problems


def _fix_of(error: ValidationError) -> str:
    missing = [str(item["loc"][0]) for item in error.errors() if item["type"] == "missing" and len(item["loc"]) == 1]
    if missing:
        return f"set {', '.join(f'{PREFIX}{name.upper()}' for name in missing)}, or write it into the profile"
    return f"fix the profile, or the {PREFIX}* variable that sets it"
