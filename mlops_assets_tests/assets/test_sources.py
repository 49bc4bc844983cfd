"""What a run's config may choose of a model's source: a part of it, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlops_assets.assets.label_sources import CardReports, LabelFiles, labels_of
from mlops_assets.assets.sources import (
    CardTransactions,
    DeltaTransactions,
    FileTransactions,
    OpenMLTransactions,
    SourceConfig,
    StreamTransactions,
    SyntheticTransactions,
    TableTransactions,
    source_of,
)
from mlops_assets.errors import SettingsError
from mlops_assets_tests.assets.harness import spec_of


@pytest.mark.parametrize(
    ("chosen", "place"),
    [
        (FileTransactions(location="/in/a.csv"), FileTransactions(location="/in")),
        (DeltaTransactions(location="/t", after_version=3), DeltaTransactions(location="/t")),
        (TableTransactions(table="c.s.t", up_to_version=3), TableTransactions(table="c.s.t")),
        (OpenMLTransactions(dataset="7", version=2, cache_dir="/c"), OpenMLTransactions(dataset="7", cache_dir="/c")),
        (SyntheticTransactions(rows=10), SyntheticTransactions()),
        (CardTransactions(days=10), CardTransactions()),
    ],
)
def test_a_part_of_the_source_may_be_chosen(chosen: SourceConfig, place: SourceConfig):
    chosen.require_within(place)


@pytest.mark.parametrize(
    ("chosen", "place", "said"),
    [
        (FileTransactions(location="/other/a.csv"), FileTransactions(location="/in"), "/other/a.csv lies outside"),
        (DeltaTransactions(location="/other"), DeltaTransactions(location="/t"), "another one than /other"),
        (StreamTransactions(location="/other"), StreamTransactions(location="/in"), "another one than /other"),
        (TableTransactions(table="c.s.u"), TableTransactions(table="c.s.t"), "another one than c.s.u"),
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
    LabelFiles(location="/labels/a.csv").require_within(LabelFiles(location="/labels"))
    with pytest.raises(SettingsError, match="lies outside of the model's place"):
        LabelFiles(location="/in/a.csv").require_within(LabelFiles(location="/labels"))


def test_what_a_spec_names_is_what_is_read(tmp_path: Path):
    delta, openml = (source_of(spec_of(source=source), tmp_path) for source in ("delta:/t", "openml:42"))

    assert delta == DeltaTransactions(location="/t", has_key=False)
    assert openml == OpenMLTransactions(dataset="42", cache_dir=str(tmp_path / "openml"))
    assert source_of(spec_of(source="stream:/in"), tmp_path) == StreamTransactions(location="/in")
    table = source_of(spec_of("handbook", source="table:c.s.t"), tmp_path)
    assert table == TableTransactions(table="c.s.t", has_key=True)
    assert source_of(spec_of("handbook", source="delta:/t"), tmp_path) == DeltaTransactions(location="/t", has_key=True)


def test_reports_are_about_the_cards_of_the_source_and_other_labels_are_files(tmp_path: Path):
    cards = spec_of("cards", source="cards")

    assert source_of(cards, tmp_path) == CardTransactions()
    assert labels_of(cards, CardTransactions(seed=3)) == CardReports(seed=3)
    files = LabelFiles(location="/labels")
    assert labels_of(spec_of("cards", source="cards", labels="/labels"), CardTransactions()) == files
    folder = LabelFiles(location="cards")
    assert labels_of(spec_of("cards", source="/in", labels="cards"), FileTransactions(location="/in")) == folder
    assert labels_of(spec_of("cards", source="/in"), FileTransactions(location="/in")) is None
    assert labels_of(spec_of(source="cards", labels=None), CardTransactions()) is None
