"""Where predictions are captured, and bringing what is new from there into the table of the log.

What belongs here: addresses of the places, and one way to load from each kind. What does not: their forms (`captured`,
`record`), the commit (`table`), Dagster.

| address | what is there |
|---|---|
| `kafka://<host:port,...>/<topic>` | rows that a server produced |
| `delta:<folder or URL>` | the table itself, which a server writes without help |
| `databricks:<folder or URL>` | an inference table of Databricks, in Delta |
| `sagemaker:<folder or URL>` | a folder with SageMaker's capture files |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import urlsplit

import fsspec
from deltalake import DeltaTable
from deltalake.exceptions import DeltaError, TableNotFoundError

from mlops_assets.errors import SettingsError, StorageError
from mlops_assets.serving.log.captured import UnreadableCaptureError, from_databricks, from_sagemaker
from mlops_assets.serving.log.sinks import SCHEMA, to_table
from mlops_assets.serving.log.table import Loaded, LogTable

if TYPE_CHECKING:
    from mlops_assets.data.contract.contract import Contract

Kind = Literal["kafka", "delta", "databricks", "sagemaker"]
KINDS: Final[tuple[Kind, ...]] = ("kafka", "delta", "databricks", "sagemaker")
_MOST: Final = 100_000


@dataclass(frozen=True)
class LogOrigin:
    """Where predictions are captured.

    Attributes:
        kind: What is there.
        place: Where it is, without the kind.
    """

    kind: Kind
    place: str

    @classmethod
    def parse(cls, address: str) -> LogOrigin:
        """Return the place of an address.

        Raises:
            SettingsError: It is none.
        """
        kind, _, place = address.partition(":")
        parts = urlsplit(address)
        if kind in KINDS and place and (kind != "kafka" or (parts.netloc and parts.path.strip("/"))):
            return cls(kind, place)
        raise SettingsError(
            "there is no such place for captured predictions",
            where="inference_log",
            fix="use kafka://<host:port>/<topic>, or delta:, databricks: or sagemaker: with a folder or URL",
        )

    def waiting(self, table: str, login: Mapping[str, str] | None = None) -> int:
        """Return how many messages, versions or files there are that the table does not have.

        Args:
            table: Folder or URL of the table.
            login: librdkafka's settings for security.

        Raises:
            StorageError: The place can't be read.
        """
        if self.kind == "delta":
            return 0
        if self.kind == "kafka":
            from mlops_assets.serving.log.from_kafka import waiting

            return waiting(*self._broker, table, login)
        known = LogTable(table)
        if self.kind == "databricks":
            return max(0, self._captured_table().version() - _noted(known, self._source))
        return max(0, len(self._files()[1]) - _noted(known, self._source, default=0))

    def load(
        self, table: str, contract: Contract, model: str, login: Mapping[str, str] | None = None, most: int = _MOST
    ) -> Loaded:
        """Add what is new to the table, in one commit.

        Args:
            table: Folder or URL of the table, which is made if it does not exist.
            contract: What a row must be, for captures of other servers.
            model: Name of the registered model, for the same.
            login: librdkafka's settings for security.
            most: Messages that are read at most, for Kafka.

        Raises:
            StorageError: The place can't be read.
        """
        if self.kind == "delta":
            return Loaded(0, 0, 0, 0)
        if self.kind == "kafka":
            from mlops_assets.serving.log.from_kafka import load

            return load(*self._broker, table, login, most)
        if self.kind == "databricks":
            return self._from_databricks(LogTable(table), contract, model)
        return self._from_sagemaker(LogTable(table), contract, model)

    def _from_databricks(self, table: LogTable, contract: Contract, model: str) -> Loaded:
        captured = self._captured_table()
        if captured.version() <= _noted(table, self._source):
            return Loaded(0, 0, 0, 0)
        found = captured.to_pyarrow_table().to_pylist()
        return _add(table, found, lambda row: from_databricks(row, contract, model), {self._source: captured.version()})

    def _from_sagemaker(self, table: LogTable, contract: Contract, model: str) -> Loaded:
        system, files = self._files()
        if len(files) <= _noted(table, self._source, default=0):
            return Loaded(0, 0, 0, 0)
        lines = [line for path in files for line in system.cat_file(path).splitlines() if line.strip()]
        return _add(table, lines, lambda line: from_sagemaker(line, contract, model), {self._source: len(files)})

    def _captured_table(self) -> DeltaTable:
        try:
            return DeltaTable(self.place)
        except (TableNotFoundError, DeltaError, OSError) as error:
            raise StorageError(
                f"the inference table can't be opened ({type(error).__name__})",
                where=self._source,
                fix="name the folder or URL of its Delta table, and let this machine read it",
            ) from None

    def _files(self) -> tuple[Any, list[str]]:
        try:
            system, root = fsspec.url_to_fs(self.place)
            if not system.isdir(root):
                raise FileNotFoundError
            return system, sorted(path for path in system.find(root) if path.endswith(".jsonl"))
        except (OSError, ValueError, ImportError) as error:
            raise StorageError(
                f"the folder of capture files can't be read ({type(error).__name__})",
                where=self._source,
                fix="name the folder or URL that the endpoint's data capture writes to",
            ) from None

    @property
    def _broker(self) -> tuple[str, str]:
        parts = urlsplit(f"kafka:{self.place}")
        return parts.netloc, parts.path.strip("/")

    @property
    def _source(self) -> str:
        return f"{self.kind}:{self.place}"


def _noted(table: LogTable, source: str, default: int = -1) -> int:
    found = table.number(source)
    return default if found is None else found


def _add(table: LogTable, captured: list[Any], read: Callable[[Any], list[bytes]], numbers: dict[str, int]) -> Loaded:
    found: list[bytes] = []
    unreadable = 0
    for item in captured:
        try:
            found += read(item)
        except UnreadableCaptureError:
            unreadable += 1
    rows = to_table(found) if found else SCHEMA.empty_table()
    added = table.add(rows, numbers)
    return Loaded(added, rows.num_rows - added, unreadable, 0)
