"""Tables in folders or by name, and databases that many tests begin with, made once a file and copied.

What belongs here: what more than one file of this room uses. What does not: what a test changes.
"""

from __future__ import annotations

import pytest

from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.resources.spark import SparkResource
from mlops_assets_tests.lakehouse.kinds import FOLDER


@pytest.fixture
def lakehouse(request: pytest.FixtureRequest, lakehouse: Lakehouse, spark_resource: SparkResource) -> Lakehouse:
    """Tables in folders; by name where a test asks for it (`kinds`)."""
    if getattr(request, "param", FOLDER) == FOLDER:
        return lakehouse
    return Lakehouse(
        spark=lambda: spark_resource.session,
        database=request.getfixturevalue("schema"),
        root=lakehouse.root,
        catalog="spark_catalog",
        locks=lakehouse.locks,
    )
