"""Reads `databricks.yml` as the Databricks CLI does, and says what is wrong with it, without a workspace.

Usage: python scripts/bundle.py   checks every target; the exit code is 1 if something is wrong.

What belongs here: variables and references of one target, the round trip of each resource through databricks-sdk's data
classes, and this project's own rules. What does not: deploying (`release`). The CLI itself validates once more in CI:
it knows the whole schema, this knows what a job of ours must have.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import yaml
from databricks.sdk.service.catalog import PrivilegeAssignment, SchemaInfo, VolumeInfo
from databricks.sdk.service.jobs import JobAccessControlRequest, JobSettings

ROOT: Final = Path(__file__).resolve().parents[1]
FILE: Final = "databricks.yml"
MOST_RUNS: Final = 2
_REFERENCE = re.compile(r"\$\{([\w.]+)\}")
# What the CLI knows only when it talks to a workspace, and what a release sets.
EXAMPLE: Final[Mapping[str, str]] = {
    "workspace.host": "https://adb-1.1.azuredatabricks.net",
    "workspace.current_user.userName": "release@example.com",
    "var.release": "0.0.0",
    "var.identity": "00000000-0000-0000-0000-000000000000",
    "var.policy_id": "000000000000ABCD",
}


class BundleError(Exception):
    """The bundle can't be deployed; the text says where and why."""


def targets(folder: Path = ROOT) -> list[str]:
    """Return the names of a bundle's targets."""
    return list(_read(folder)["targets"])


def resources(target: str, known: Mapping[str, Any] = EXAMPLE, folder: Path = ROOT) -> dict[str, dict[str, Any]]:
    """Return the resources of a target, by kind and name, with every reference replaced.

    Args:
        target: One of `targets`.
        known: Values from outside by reference (`var.release`, `workspace.host`), which win over the file's.
        folder: Where the bundle is.

    Raises:
        BundleError: There is no such target, or a reference leads nowhere.
    """
    document = _read(folder)
    if target not in document["targets"]:
        raise BundleError(f"{FILE}: no target {target}; there are {', '.join(document['targets'])}")
    chosen = document["targets"][target].get("variables", {})
    defaults = {name: field["default"] for name, field in document["variables"].items() if "default" in field}
    values = {f"var.{name}": value for name, value in {**defaults, **chosen}.items()}
    values |= {"bundle.target": target, "bundle.name": document["bundle"]["name"], **known}
    for kind, named in document["resources"].items():
        for name, fields in named.items():
            values |= {f"resources.{kind}.{name}.{field}": value for field, value in fields.items()}
    return dict(_filled(document["resources"], values, FILE))


def given_by(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the values of variables that the environment sets, by reference; the CLI reads `BUNDLE_VAR_<name>`."""
    prefix = "BUNDLE_VAR_"
    return {f"var.{name[len(prefix) :]}": value for name, value in environ.items() if name.startswith(prefix)}


def problems(found: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the resources of a target, one line each."""
    for name, job in found.get("jobs", {}).items():
        where = f"jobs.{name}"
        settings = {key: value for key, value in job.items() if key != "permissions"}
        yield from _lost(where, settings, JobSettings.from_dict(settings).as_dict())
        for entry in job.get("permissions", []):
            asked = {
                **{key: value for key, value in entry.items() if key != "level"},
                "permission_level": entry["level"],
            }
            yield from _lost(f"{where}.permissions", asked, JobAccessControlRequest.from_dict(asked).as_dict())
        if not job.get("permissions"):
            yield f"{where}: no permissions, so nobody but its owner could stop it"
        if not 1 <= job.get("max_concurrent_runs", 1) <= MOST_RUNS:
            yield f"{where}: max_concurrent_runs is {job['max_concurrent_runs']}; at most {MOST_RUNS} may run at once"
        if not job.get("timeout_seconds"):
            yield f"{where}: no timeout_seconds, so a run that hangs is billed for ever"
        keys = {cluster["job_cluster_key"] for cluster in job["job_clusters"]}
        for task in job["tasks"]:
            if task.get("job_cluster_key") not in keys:
                yield f"{where}: task {task['task_key']} names no cluster of the job"
    for name, schema in found.get("schemas", {}).items():
        yield from _granted(f"schemas.{name}", schema, SchemaInfo)
    for name, volume in found.get("volumes", {}).items():
        yield from _granted(f"volumes.{name}", volume, VolumeInfo)


def _granted(where: str, resource: Mapping[str, Any], kind: Any) -> Iterator[str]:
    fields = {key: value for key, value in resource.items() if key != "grants"}
    yield from _lost(where, fields, kind.from_dict(fields).as_dict())
    for grant in resource.get("grants", []):
        yield from _lost(f"{where}.grants", grant, PrivilegeAssignment.from_dict(grant).as_dict())


def _lost(where: str, sent: Any, kept: Any) -> Iterator[str]:
    """Yield each field that a data class does not give back as it was."""
    if isinstance(sent, Mapping) and isinstance(kept, Mapping):
        for key, value in sent.items():
            yield from _lost(f"{where}.{key}", value, kept.get(key))
    elif isinstance(sent, list) and isinstance(kept, list) and len(sent) == len(kept):
        for number, (one, two) in enumerate(zip(sent, kept, strict=True)):
            yield from _lost(f"{where}[{number}]", one, two)
    elif sent != kept:
        yield f"{where}: {sent!r} is nothing that databricks-sdk knows there"


def _filled(value: Any, values: Mapping[str, Any], where: str) -> Any:
    if isinstance(value, Mapping):
        return {key: _filled(item, values, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list):
        return [_filled(item, values, where) for item in value]
    if not isinstance(value, str):
        return value
    if (whole := _REFERENCE.fullmatch(value)) and whole[1] in values:  # keeps the type of a number
        return _filled(values[whole[1]], values, where)

    def text_of(match: re.Match[str]) -> str:
        if match[1] not in values:
            raise BundleError(f"{where}: ${{{match[1]}}} is defined nowhere")
        return str(_filled(values[match[1]], values, where))

    return _REFERENCE.sub(text_of, value)


def _read(folder: Path) -> dict[str, Any]:
    return dict(yaml.safe_load((folder / FILE).read_text("utf-8")))


def main() -> int:
    """Check every target and print what is wrong."""
    wrong = 0
    for target in targets():
        try:
            lines = list(problems(resources(target)))
        except BundleError as error:
            lines = [str(error)]
        wrong += len(lines)
        print(f"{target}: {'ok' if not lines else ''}", *lines, sep="\n  " if lines else "")
    return int(wrong > 0)


if __name__ == "__main__":
    sys.exit(main())
