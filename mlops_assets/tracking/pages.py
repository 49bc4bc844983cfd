"""Addresses of pages in MLflow's own UI, for links.

What belongs here: which page shows what. What does not: where the UI is (`deployment`), reading MLflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote


@dataclass(frozen=True)
class Pages:
    """MLflow's UI.

    Attributes:
        ui: Where it is: the address of an MLflow server, or `https://<workspace>/ml` on Databricks.
    """

    ui: str

    def run(self, experiment_id: str, run_id: str) -> str:
        """Return the page of a run."""
        return f"{self._root}/experiments/{experiment_id}/runs/{run_id}"

    def artifact(self, experiment_id: str, run_id: str, path: str) -> str:
        """Return the page that shows a file of a run."""
        return f"{self.run(experiment_id, run_id)}/artifacts/{quote(path)}"

    def version(self, name: str, number: int) -> str:
        """Return the page of a registered version; three levels in the name mean Unity Catalog."""
        levels = name.split(".")
        if self._is_databricks and len(levels) > 1:
            return f"{self.ui.removesuffix('/ml')}/explore/data/models/{'/'.join(map(quote, levels))}/version/{number}"
        return f"{self._root}/models/{quote(name)}/versions/{number}"

    @property
    def _is_databricks(self) -> bool:
        return self.ui.endswith("/ml")

    @property
    def _root(self) -> str:
        # A server's UI finds its pages behind the hash.
        return self.ui if self._is_databricks else f"{self.ui.rstrip('/')}/#"
