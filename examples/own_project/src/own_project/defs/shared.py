"""What the code location has beside its models: the doctor, alerts and, on Databricks, the reaper."""

import dagster as dg

from mlops_assets.fraud_model.component import shared_definitions

defs: dg.Definitions = shared_definitions()
