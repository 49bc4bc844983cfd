"""A Databricks workspace on 127.0.0.1: it serves the REST API that databricks-sdk calls and runs what is submitted."""

from databricks_loopback.errors import LoopbackError
from databricks_loopback.workspace import Workspace

__all__ = ["LoopbackError", "Workspace"]
