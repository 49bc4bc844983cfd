"""The page that links of runs lead to."""

from __future__ import annotations

import requests
from databricks.sdk import WorkspaceClient

from databricks_loopback import Workspace
from databricks_loopback.driving import python_task, run_code, submit, wait_for_end


def test_a_link_of_a_run_leads_to_its_row(workspace: Workspace, client: WorkspaceClient):
    run, _ = run_code(client, "print('in the log')")
    assert run.run_page_url is not None

    page = requests.get(run.run_page_url, timeout=10)

    assert page.headers["Content-Type"].startswith("text/html")
    (row,) = (line for line in page.text.splitlines() if str(run.run_id) in line)
    assert f'id="{run.run_page_url.partition("#")[2]}"' in row
    assert "TERMINATED SUCCESS" in row
    assert "in the log" not in page.text, "it is shown without a token"


def test_names_are_text(workspace: Workspace, client: WorkspaceClient):
    wait_for_end(client, submit(client, python_task("pass", client), run_name="<b>bold</b>"))

    assert "&lt;b&gt;bold&lt;/b&gt;" in requests.get(workspace.host, timeout=10).text
