"""What a run's config may choose of a model's source: a part of it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_assets.assets.sources import (
    DeltaTransactions,
    FileTransactions,
    LabelFiles,
    OpenMLTransactions,
    SourceConfig,
    SyntheticTransactions,
    source_of,
)
from mlops_assets.errors import SettingsError
from mlops_assets_tests.assets.harness import spec_of


@pytest.mark.parametrize(
    ("chosen", "place"),
    [
        (FileTransactions(location="/in/a.csv"), FileTransactions(location="/in")),
        (DeltaTransactions(location="/t", after_version=3), DeltaTransactions(location="/t")),
        (OpenMLTransactions(dataset="7", version=2, cache_dir="/c"), OpenMLTransactions(dataset="7", cache_dir="/c")),
        (SyntheticTransactions(rows=10), SyntheticTransactions()),
    ],
)
def test_a_part_of_the_source_may_be_chosen(chosen: SourceConfig, place: SourceConfig):
    chosen.require_within(place)


@pytest.mark.parametrize(
    ("chosen", "place", "said"),
    [
        (FileTransactions(location="/other/a.csv"), FileTransactions(location="/in"), "/other/a.csv lies outside"),
        (DeltaTransactions(location="/other"), DeltaTransactions(location="/t"), "another one than /other"),
        (
            OpenMLTransactions(dataset="8", cache_dir="/c"),
            OpenMLTransactions(dataset="7", cache_dir="/c"),
            "another one than 8",
        ),
    ],
)
def test_another_source_is_refused(chosen: SourceConfig, place: SourceConfig, said: str):
    with pytest.raises(SettingsError, match=said):
        chosen.require_within(place)


def test_labels_from_elsewhere_are_refused():
    LabelFiles(location="/labels/a.csv").require_within("/labels")
    with pytest.raises(SettingsError, match="lies outside of the model's place"):
        LabelFiles(location="/in/a.csv").require_within("/labels")


def test_what_a_spec_names_is_what_is_read(tmp_path: Path):
    delta, openml = (source_of(spec_of(source=source), tmp_path) for source in ("delta:/t", "openml:42"))

    assert delta == DeltaTransactions(location="/t", has_key=False)
    assert openml == OpenMLTransactions(dataset="42", cache_dir=str(tmp_path / "openml"))
    assert source_of(spec_of("handbook", source="delta:/t"), tmp_path) == DeltaTransactions(location="/t", has_key=True)
