"""Launching a Dagster step on a Databricks cluster: code up, run submitted, events and logs back.

What belongs here: the launch of one step and what can go wrong with it. What does not: what a cluster is made of
(`mlops_assets.databricks`), what a step does (assets), which step goes where (definitions).

The order of a launch: `code` packs the package, `staging` puts it where the cluster can read it, `submission` asks for
the run, `cluster_main` runs the step there, `watch` reads what it reports, `failures` says what went wrong, `launcher`
ties these to Dagster, and `reaper` ends what a dead launcher has left behind.
"""
