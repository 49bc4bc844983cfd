"""Addresses in MLflow's UI; the forms for Databricks are those that MLflow's own code writes."""

from __future__ import annotations

from mlflow.utils.databricks_utils import _construct_databricks_uc_registered_model_url

from mlops_assets.tracking.pages import Pages

HOST = "https://example.azuredatabricks.net"


def test_pages_of_a_server():
    pages = Pages("https://mlflow.example.org/")

    assert pages.run("3", "ab") == "https://mlflow.example.org/#/experiments/3/runs/ab"
    assert pages.artifact("3", "ab", "a b/c.png") == f"{pages.run('3', 'ab')}/artifacts/a%20b/c.png"
    assert pages.version("my model", 2) == "https://mlflow.example.org/#/models/my%20model/versions/2"


def test_pages_of_a_workspace():
    pages = Pages(f"{HOST}/ml")

    assert pages.run("3", "ab") == f"{HOST}/ml/experiments/3/runs/ab"
    ours = pages.version("main.fraud.cards", 2)
    assert ours == _construct_databricks_uc_registered_model_url(HOST, "main.fraud.cards", "2", None)
    assert pages.version("cards", 2) == f"{HOST}/ml/models/cards/versions/2"
