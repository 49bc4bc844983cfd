"""The data contract as a resource: its text travels with the run, so that a cluster needs no copy of the user's file.

What belongs here: handing the parsed contract to assets. What does not: the contract itself (`data/contract`).
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from mlops_assets.data.contract.contract import Contract, parse_contract


class ContractResource(dg.ConfigurableResource[Any]):
    """Holds a contract as YAML text.

    Attributes:
        yaml_text: The contract, as `Contract.to_yaml` writes it.
    """

    yaml_text: str

    def load(self) -> Contract:
        """Return the contract; raises ContractError when the text was edited into an invalid one."""
        return parse_contract(self.yaml_text, where="resource `contract`")
