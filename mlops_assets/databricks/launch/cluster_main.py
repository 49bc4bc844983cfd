"""The script that runs on the cluster: verifies what it was sent, checks versions, and hands over to that code.

What belongs here: what must work before the step's code can be imported, so only the standard library is imported at
the top. What does not: running requests (`request_loop`), the reports (`reports`), the launching side.

It is uploaded as a file of its own and executed in `__main__` with the globals `spark`, `sc` and `dbutils`; its
arguments are a folder with `request.json`, that file's SHA-256 and the key of the reports. Someone who can write to the
staging folder must not be able to run code with it: requests are JSON in Dagster's own serialization, never pickle, and
what is run is verified. The request's hash comes with the task, which only the launching identity can submit, and the
request has the hash of the code.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import sys
import tempfile
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlops_assets.databricks.launch.reports import Channel


class ChangedFileError(Exception):
    """A staged file is not the one that the launcher wrote."""


class UnreadableSecretError(Exception):
    """A secret of the profile can't be read."""


def main(folder: Path, sha256: str, key: str, task_globals: Mapping[str, Any]) -> None:
    """Run the step that `folder/request.json` describes, and those that follow on this cluster.

    Args:
        folder: The launch's own folder.
        sha256: Hash of the request, in hexadecimal.
        key: The launch's key, hexadecimal, with which its reports are signed.
        task_globals: The globals of the task: `dbutils`, and `sc` or `spark` are used.

    Raises:
        ChangedFileError: A request or the code is not what the launcher wrote.
        Exception: Whatever ended the step, so that the run fails.
    """
    started = time.monotonic()
    request: dict[str, Any] = json.loads(verified(folder / "request.json", sha256))
    with tempfile.TemporaryDirectory() as here:
        archive, code = unpacked(request, Path(here))
        # Not as the first entry: Dagster assumes that to be the script's folder and removes it for imports.
        sys.path.insert(1, str(code))

        def set_up(channel: Channel) -> None:
            prepare(request, task_globals, channel, archive)
            # `addPyFile` has put the zip itself in front, and a project's folder of definitions can't be read in a zip.
            sys.path.remove(str(code))
            sys.path.insert(1, str(code))

        request_loop = importlib.import_module("mlops_assets.databricks.launch.request_loop")
        request_loop.run_requests(folder, request, key, set_up, started=started)


def verified(path: Path, sha256: str) -> bytes:
    """Return a staged file's content.

    Raises:
        ChangedFileError: It does not have this hash.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ChangedFileError(
            f"{path} has the SHA-256 {found}, and the launcher wrote {sha256}. Nothing of it was run. "
            "Fix: find out who else writes to the staging folder, and revoke that; then launch again."
        )
    return content


def unpacked(request: Mapping[str, Any], folder: Path) -> tuple[Path, Path]:
    """Return the verified code on this machine's own disk: the zip, and the folder of its files.

    Args:
        request: Its `code` and `code_sha256` are used.
        folder: An empty folder of this machine.

    Raises:
        ChangedFileError: It is not the code that the launcher wrote.
    """
    archive, code = folder / Path(request["code"]).name, folder / "code"
    archive.write_bytes(verified(Path(request["code"]), request["code_sha256"]))
    with zipfile.ZipFile(archive) as files:
        files.extractall(code)
    return archive, code


def prepare(request: Mapping[str, Any], task_globals: Mapping[str, Any], channel: Channel, archive: Path) -> None:
    """Check the versions before Dagster is imported, then set up this process and the workers.

    Args:
        request: What `Uploads.instructions` returned.
        task_globals: The globals of the task.
        channel: For warnings.
        archive: The verified zip of the code, on this machine's own disk.
    """
    if request["versions"]:
        preflight = importlib.import_module("mlops_assets.databricks.preflight")
        for finding in preflight.require_compatible_here(request["versions"]):
            channel.put("warning", text=f"{finding.subject}: {finding.text}")
    os.environ.update(request["env"])
    for name, reference in request["secrets"].items():
        scope, _, key = reference.partition("/")
        try:
            os.environ[name] = task_globals["dbutils"].secrets.get(scope=scope, key=key)
        except Exception as error:
            raise UnreadableSecretError(
                f"a secret that the cluster refers to can't be read: {name} is that of scope {scope}, key {key} "
                f"({error}). Fix: `databricks secrets put-secret {scope} {key}`, and see that the launching identity "
                "has READ on the scope."
            ) from error
    if request["python_on_workers"]:
        # Workers have a sys.path of their own, and functions that Spark runs there import the package too.
        if "sc" in task_globals:
            task_globals["sc"].addPyFile(str(archive))
        else:  # serverless compute has a Spark Connect session and no SparkContext
            task_globals["spark"].addArtifacts(str(archive), pyfile=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], globals())
