"""Launches a Dagster step on a Databricks cluster: uploads code, submits a run, brings events and logs back.

What belongs here: the launch of one step and what can go wrong with it. What does not: the definition of a cluster
(`mlops_assets.databricks`), what a step does (assets), which step runs where (definitions).

The order of a launch: `code` packs the package, `uploads` stores it (`staging`), `submission` submits the run,
`cluster_main` and `request_loop` run the step there, `warm` hands their cluster the next one, `reports` writes what
happens, `watch` reads it, `launched` knows what it has said so far, `failures` explains what went wrong, `launcher`
connects these to Dagster, and `reaper` cleans up after a launcher that died.
"""
