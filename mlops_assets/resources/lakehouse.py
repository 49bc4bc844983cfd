"""The lakehouse as a resource: where its tables are, and the Spark session that reads them.

What belongs here: making a `lakehouse.lakehouse.Lakehouse` from configuration. What does not: operations on tables.
"""

import dagster as dg

from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.spark import SparkResource


class LakehouseResource(dg.ConfigurableResource[Lakehouse]):
    """Makes the lakehouse that an asset takes as `lakehouse: dg.ResourceParam[Lakehouse]`.

    Attributes: as those of `Lakehouse`.
    """

    spark: dg.ResourceDependency[SparkResource]
    database: str
    root: str
    catalog: str = ""
    locks: str = ""

    def create_resource(self, context: dg.InitResourceContext) -> Lakehouse:  # noqa: ARG002 - Dagster's signature
        """Return the lakehouse; Spark is not started."""
        return self.open()

    def open(self) -> Lakehouse:
        """Return the lakehouse, outside of a run too; Spark is not started."""
        spark = self.spark
        return Lakehouse(
            spark=lambda: spark.session,
            database=self.database,
            root=self.root,
            catalog=self.catalog,
            locks=self.locks,
            catalog_here=spark.on_cluster or f"spark.sql.catalog.{self.catalog}" in spark.extra_conf,
        )
