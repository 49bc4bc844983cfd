from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.sources.locations import holds_secret, is_hidden, kind_of, shown, split_list


@pytest.mark.parametrize(
    ("location", "text"),
    [
        ("/data/a b.csv", "/data/a b.csv"),
        ("/data/user@host.csv", "/data/user@host.csv"),
        ("/data/part-?.csv", "/data/part-?.csv"),
        ("s3://bucket/part-?.csv", "s3://bucket/part-?.csv"),
        ("s3://bucket/a@b.csv", "s3://bucket/a@b.csv"),
        ("s3://key:secret@bucket/a.csv", "s3://bucket/a.csv"),
        ("https://host:8443/a@b.csv", "https://host:8443/a@b.csv"),
        ("https://host/a.csv?sv=1&sig=secret", "https://host/a.csv"),
        ("https://host/a.csv?secret", "https://host/a.csv"),
        ("https://host/a.csv#secret", "https://host/a.csv"),
        ("https://user:secret@host:8443/a.csv?sig=secret", "https://host:8443/a.csv"),
        ("https://secret@host/a.csv", "https://host/a.csv"),
        ("https://user:sec@ret@host/a.csv", "https://host/a.csv"),
        ("https://user:sec/ret@host/a.csv", "https://host/a.csv"),
        ("https://user:sec?ret@host/a.csv", "https://host/a.csv"),
        ("simplecache::https://user:secret@host/a.csv?secret", "simplecache::https://host/a.csv"),
        (
            "abfss://container@account.dfs.core.windows.net/a.csv",
            "abfss://container@account.dfs.core.windows.net/a.csv",
        ),
        ("abfss://container@account/a.csv?sig=secret", "abfss://container@account/a.csv"),
        ("abfss://user:secret@account/a.csv", "abfss://account/a.csv"),
    ],
)
def test_what_is_shown_of_a_location(location: str, text: str):
    assert shown(location) == text
    assert holds_secret(location) == (location != text)


_SECRET = st.text(string.ascii_letters + string.digits + "!$&'()*+,;=:@%-._~ü", min_size=12, max_size=30)


@given(
    scheme=st.sampled_from(["http", "https", "s3", "sftp", "ftp"]), user=st.text(string.ascii_letters), secret=_SECRET
)
def test_no_password_is_ever_shown(scheme: str, user: str, secret: str):
    assert shown(f"{scheme}://{user}:{secret}@host.example/folder/a.csv") == f"{scheme}://host.example/folder/a.csv"


@given(st.text(string.ascii_letters + string.digits + "!$&'()*+,;:@/?%-._~", min_size=8))
def test_no_query_of_a_web_url_is_ever_shown(secret: str):
    assert shown(f"https://host.example/a.csv?{secret}") == "https://host.example/a.csv"


@pytest.mark.parametrize(
    ("locations", "items"),
    [
        ("a.csv", ["a.csv"]),
        (" a.csv , b/*.csv,,c ", ["a.csv", "b/*.csv", "c"]),
        ("https://u:p,w@host/a.csv,b.csv", ["https://u:p,w@host/a.csv", "b.csv"]),
        ("s3://b/a.csv,s3://b/c.csv", ["s3://b/a.csv", "s3://b/c.csv"]),
        (" , ", []),
    ],
)
def test_lists_are_split_at_commas(locations: str, items: list[str]):
    assert split_list(locations) == items


def test_kinds_are_told_by_name():
    names = ["a.csv", "A.CSV", "a.csv.gz", "a.parquet", "a.gz", "csv", "a.csv.bak", "a.parquet.crc"]

    assert [kind_of(name) for name in names] == ["csv", "csv", "csv.gz", "parquet", None, None, None, None]


def test_hidden_names():
    assert [is_hidden(name) for name in ("_SUCCESS", ".a.csv", "a_.csv")] == [True, True, False]
