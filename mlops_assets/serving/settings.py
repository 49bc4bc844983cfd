"""The settings of a server, as variables describe them.

What belongs here: the fields, their bounds and defaults. What does not: reading the environment (`deployment`), what a
model is (`spec`).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, field_validator, model_validator

from mlops_assets.errors import SettingsError
from mlops_assets.serving.policy import Decision

PREFIX: Final = "MLOPS_SERVING_"


class ServingSettings(BaseModel):
    """How a server answers and what it keeps; each field is a variable `MLOPS_SERVING_<FIELD>`.

    Attributes:
        host: Address to bind.
        port: Port to bind.
        workers: Processes that answer.
        versions: Numbers of versions that are served at `/vN/invocations` beside the champion, with commas.
        shadow: Alias whose version scores every event beside the champion, off the request path; empty for none.
        canary: Alias whose version answers a share of the entities; empty for none.
        canary_share: That share.
        poll_seconds: How often aliases are looked up.
        token: Keys that callers send as bearer or in `X-API-Key`, with commas; none on loopback only.
        rate: Requests a second and worker; 0 for no limit.
        max_rows: Rows of one request.
        max_bytes: Bytes of one request.
        deadline_ms: From then on an event gets the fallback instead of a score.
        fallback: The decision that stands in for one that can't be made in time.
        remember_hours: How long an event id gets the same answer again.
        log: Where the log of predictions goes: `memory:`, `file:<path>`, `delta:<folder or URL>`,
            `kafka://<host:port>/<topic>`; by default a Delta table beside the model's other tables.
        log_bytes: Bytes of the log that may wait for the sink, on disk.
        log_full: What becomes of a request that can't be logged: `refuse` answers 503, `count` answers and counts it.
        entity_salt: Secret from which the salts of entities are derived; by default one that is made in MLOPS_HOME.
        entity_salt_days: After so many days an entity has another hash; 0 for never.
        kafka_username: SASL user of the log's broker; `$ConnectionString` for Event Hubs.
        kafka_password: SASL password; for Event Hubs the connection string.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8400, ge=0, le=65_535)
    workers: int = Field(default=1, ge=1, le=64)
    versions: str = Field(default="", pattern=r"^(\d+(,\d+)*)?$")
    shadow: str = ""
    canary: str = ""
    canary_share: float = Field(default=0.0, ge=0, le=1)
    poll_seconds: float = Field(default=2.0, gt=0, le=5)
    token: SecretStr = SecretStr("")
    rate: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    max_rows: int = Field(default=10_000, ge=1)
    max_bytes: int = Field(default=16 * 2**20, ge=1_024)
    deadline_ms: float = Field(default=250.0, gt=0, allow_inf_nan=False)
    fallback: Decision = "review"
    remember_hours: float = Field(default=24.0, gt=0, allow_inf_nan=False)
    log: str = ""
    log_bytes: int = Field(default=2**30, ge=2**16)
    log_full: Literal["refuse", "count"] = "refuse"
    entity_salt: SecretStr = SecretStr("")
    entity_salt_days: int = Field(default=0, ge=0)
    kafka_username: str = ""
    kafka_password: SecretStr = SecretStr("")

    @field_validator("token")
    @classmethod
    def _long_enough(cls, token: SecretStr) -> SecretStr:
        if any(len(key) < 16 for key in token.get_secret_value().split(",") if token.get_secret_value()):  # noqa: PLR2004
            raise ValueError("use keys of at least 16 characters")
        return token

    @model_validator(mode="after")
    def _open_only_with_a_key(self) -> ServingSettings:
        if not self.is_loopback and not self.token.get_secret_value():
            raise ValueError("a server that others can reach needs a key: set token, or leave host at 127.0.0.1")
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        try:
            return self.host == "localhost" or ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @property
    def version_numbers(self) -> tuple[int, ...]:
        """The versions that are served by number."""
        return tuple(int(number) for number in self.versions.split(",") if number)

    @property
    def keys(self) -> tuple[bytes, ...]:
        """The keys that are accepted; empty if none is asked for."""
        return tuple(key.encode() for key in self.token.get_secret_value().split(",") if key)

    @property
    def kafka_login(self) -> dict[str, str]:
        """The settings of librdkafka for security; empty without a user."""
        if not self.kafka_username:
            return {}
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanisms": "PLAIN",
            "sasl.username": self.kafka_username,
            "sasl.password": self.kafka_password.get_secret_value(),
        }


def read_serving(environ: Mapping[str, str], **given: object) -> ServingSettings:
    """Read the settings of a server.

    Args:
        environ: Variables; those without the prefix are ignored, empty ones count as not set.
        given: Values that take precedence, such as options of the command line; None counts as not given.

    Raises:
        SettingsError: A variable is misspelt or out of range; the text repeats no value.
    """
    values: dict[str, object] = {
        name.removeprefix(PREFIX).lower(): value for name, value in environ.items() if name.startswith(PREFIX) and value
    }
    values |= {name: value for name, value in given.items() if value is not None}
    try:
        return ServingSettings.model_validate(values)
    except ValidationError as error:
        problems = [
            f"{PREFIX}{str((item['loc'] or '*')[0]).upper()}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_input=False)
        ]
        raise SettingsError(
            "; ".join(problems), where="environment", fix="correct the variable; docs/how-to/serve.md lists them"
        ) from None
