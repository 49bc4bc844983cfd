"""A retired model is neither trained nor registered, also by hand; brought back, it is."""

from __future__ import annotations

import pytest

from mlops_assets.lakehouse.lakehouse import Lakehouse
from mlops_assets.registry.retirement import bring_back, retire
from mlops_assets.resources.tracking import Tracking
from mlops_assets_tests.assets.harness import register, tune
from mlops_assets_tests.assets.test_registered_model import MODEL, aliases


@pytest.mark.proof  # a load and a search
def test_training_and_registration_are_refused_until_it_is_brought_back(tuned: Lakehouse, tracking: Tracking):
    store = tracking.connect()
    mark = retire(store, MODEL)
    runs = len(store.client.search_runs([store.experiment_id]))

    for refused in (tune(tuned, tracking), register(tuned, tracking)):
        assert f"the model was retired on {mark.since}" in refused.message
        assert "mlops retire --undo" in refused.message
        assert refused.failure is not None
        assert refused.failure.allow_retries is False
        assert refused.results == []
    assert len(store.client.search_runs([store.experiment_id])) == runs, "no search was begun"
    assert aliases(tracking) == {"challenger": None, "champion": None}
    assert store.client.search_model_versions(f"name = '{MODEL}'") == []

    bring_back(store, MODEL)

    assert register(tuned, tracking).failure is None
    assert aliases(tracking)["challenger"] == 1
