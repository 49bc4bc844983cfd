"""The YAML blocks of the pages are loaded by what loads them for a user: contracts, run configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from mlops_assets.data.contract.contract import load_contract
from mlops_assets.definitions import build_defs
from mlops_assets.errors import ContractError
from mlops_assets.settings import Settings
from mlops_assets_tests.docs.pages import PAGES, Block, blocks_of

EXAMPLES = [block for page in PAGES for block in blocks_of(page) if block.language == "yaml"]


@pytest.fixture
def repository(tmp_path: Path) -> dg.RepositoryDefinition:
    return build_defs(Settings(home=tmp_path, source="/landing")).get_repository_def()


def load(block: Block, folder: Path, repository: dg.RepositoryDefinition) -> None:
    """Load an example for what its keys say that it is.

    Raises:
        AssertionError: It is nothing that is known here.
        ContractError, dagster.DagsterInvalidConfigError: It can't be used.
    """
    document: dict[str, Any] = yaml.safe_load(block.text)
    if "columns" in document:
        path = folder / "contract.yaml"
        path.write_text(block.text, encoding="utf-8")
        load_contract(str(path))
        return
    assert set(document) == {"ops"}, f"{block.where}: neither a contract nor the configuration of a run"
    jobs = [job for job in repository.get_all_jobs() if job.name != "__ASSET_JOB"]
    (job, *_) = [job for job in jobs if set(document["ops"]) <= {node.name for node in job.nodes}]
    dg.validate_run_config(job, document)


@pytest.mark.parametrize("block", EXAMPLES, ids=lambda block: block.where)
def test_an_example_can_be_used(block: Block, tmp_path: Path, repository: dg.RepositoryDefinition):
    load(block, tmp_path, repository)


def test_examples_that_can_not_be_used_are_noticed(tmp_path: Path, repository: dg.RepositoryDefinition):
    def example(text: str) -> Block:
        return Block("page.md", 1, "yaml", text)

    with pytest.raises(ContractError):
        load(example("{name: a, version: 1, columns: [], features: [amount]}"), tmp_path, repository)
    with pytest.raises(dg.DagsterInvalidConfigError):
        load(example("ops: {tuned_model: {config: {trails: 3}}}"), tmp_path, repository)
    with pytest.raises(AssertionError, match="neither a contract nor"):
        load(example("launcher: pipes"), tmp_path, repository)
