"""Who may see and manage a run and its cluster: a typed model of the access lists.

What belongs here: principals, levels, their rules, and the entries of the API. What does not: sending them (`launch`).

Rules and fields: "Jobs API 2.2" (`runs/submit`, `access_control_list`) and "Permissions API" of the Databricks
reference.
"""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


class Principal(BaseModel):
    """The principal of a permission: exactly one of the three.

    Attributes:
        user: E-mail address.
        group: Name of a group.
        service_principal: Application id of a service principal.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    user: str | None = Field(default=None, min_length=1)
    group: str | None = Field(default=None, min_length=1)
    service_principal: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        if sum(name is not None for name in (self.user, self.group, self.service_principal)) != 1:
            raise ValueError("name exactly one of user, group and service_principal")
        return self

    def entry(self, level: str) -> dict[str, str]:
        """Return the entry of an access list (`AccessControlRequest`)."""
        names = {"user_name": self.user, "group_name": self.group, "service_principal_name": self.service_principal}
        return {name: value for name, value in names.items() if value is not None} | {"permission_level": level}


class JobPermission(Principal):
    """A permission on the run."""

    level: Literal["CAN_VIEW", "CAN_MANAGE_RUN", "IS_OWNER", "CAN_MANAGE"]

    @model_validator(mode="after")
    def _owner_is_no_group(self) -> Self:
        if self.level == "IS_OWNER" and self.group is not None:
            raise ValueError("a group can't be IS_OWNER of a job; use CAN_MANAGE, or name a user or service principal")
        return self


class ClusterPermission(Principal):
    """A permission on the cluster."""

    level: Literal["CAN_ATTACH_TO", "CAN_RESTART", "CAN_MANAGE"]


class Permissions(BaseModel):
    """Access lists of the run and its cluster; the launching identity can manage both anyway."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    job: tuple[JobPermission, ...] = ()
    cluster: tuple[ClusterPermission, ...] = ()

    @field_validator("job")
    @classmethod
    def _one_owner(cls, job: tuple[JobPermission, ...]) -> tuple[JobPermission, ...]:
        if sum(permission.level == "IS_OWNER" for permission in job) > 1:
            raise ValueError("a job has one owner")
        return job
