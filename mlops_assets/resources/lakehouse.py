"""The lakehouse as a resource: where the databases are, and the Spark session that reads them.

What belongs here: making a `lakehouse.lakehouse.Lakehouse` for a model. What does not: operations on tables.
"""

import re
from typing import Final

import dagster as dg
from pydantic import field_validator

from mlops_assets.deployment import Deployment
from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.lakehouse.warehouse import SqlWarehouse
from mlops_assets.lineage import TABLE_CONTRACT_TAG, TABLE_MODEL_TAG
from mlops_assets.resources.connection import Connection
from mlops_assets.resources.spark import SparkResource
from mlops_assets.spec import FraudModelSpec

_NAME: Final = re.compile(r"[\w-]+", re.ASCII)


def schema_of(schema: str, spec: FraudModelSpec) -> str:
    """Return a model's schema in a catalog.

    Args:
        schema: That of the model without a name.
        spec: The model.
    """
    return f"{schema}_{spec.name}" if spec.name else schema


def _warehouse(workspace: str, warehouse_id: str) -> SqlWarehouse:
    """Return a SQL warehouse, called with this process's identity: the launching side's, or a cluster's own."""
    # databricks-sdk takes as long to import as the rest of a code location.
    from mlops_assets.databricks.login import Credentials
    from mlops_assets.databricks.statements import Statements

    def login() -> Credentials:
        given = Deployment.databricks_login()
        return Credentials(
            workspace,
            token=given.get("token", ""),
            client_id=given.get("client_id", ""),
            client_secret=given.get("client_secret", ""),
            unified=not given,
        )

    return Statements(login, warehouse_id)


class LakehouseResource(Connection):
    """Opens the database of a model.

    Attributes:
        spark: The session.
        root: Folder that holds a folder for each database: its tables stored by path, or its staged rows.
        catalog: Catalog of tables by name; empty for tables in folders.
        schema_name: With a catalog: the schema of the model without a name; others have `<schema>_<name>`.
        explorer: With a catalog: address of the pages that show its tables.
        locks: Folder of the lock files; empty where the storage itself keeps two writers apart.
        workspace: With a catalog: address of the workspace.
        warehouse_id: With a catalog: SQL warehouse that writes the ledger of champions; empty for no ledger.
    """

    spark: dg.ResourceDependency[SparkResource]
    root: str
    catalog: str = ""
    schema_name: str = ""
    explorer: str = ""
    locks: str = ""
    workspace: str = ""
    warehouse_id: str = ""

    @field_validator("catalog", "schema_name")
    @classmethod
    def _plain_name(cls, name: str) -> str:
        if name and not _NAME.fullmatch(name):
            raise ValueError("use letters, digits, underscores and hyphens")
        return name

    def open(self, spec: FraudModelSpec) -> Lakehouse:
        """Return the model's database; Spark is not started."""
        spark = self.spark
        return Lakehouse(
            spark=lambda: spark.session,
            database=schema_of(self.schema_name, spec) if self.catalog else spec.database,
            root=f"{self.root}/{spec.database}",
            catalog=self.catalog,
            locks=self.locks,
            catalog_here=self.catalog_here,
            explorer=self.explorer,
            tags=self._tags(spec) if self.catalog and spark.on_cluster else {},
            warehouse=_warehouse(self.workspace, self.warehouse_id) if self.warehouse_id else None,
        )

    @staticmethod
    def _tags(spec: FraudModelSpec) -> dict[str, str]:
        """Return what a table says of itself in the catalog; what a version was made from is in the table's history."""
        return {TABLE_MODEL_TAG: spec.title, TABLE_CONTRACT_TAG: spec.contract.versioned_name}

    @property
    def catalog_here(self) -> bool:
        """Whether this process's Spark can reach the catalog."""
        return self.spark.on_cluster or f"spark.sql.catalog.{self.catalog}" in self.spark.extra_conf
