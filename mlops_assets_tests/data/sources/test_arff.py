from __future__ import annotations

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_assets.data.sources import arff
from mlops_assets.data.sources.arff import read_arff
from mlops_assets.errors import SourceError

HEAD = b"% made by hand\n@RELATION 'fraud set'\n\n@ATTRIBUTE Time REAL\n@attribute Amount numeric\n"
CARD = HEAD + b"@attribute Class {'0','1'}\n@DATA\n"


def test_plain_rows():
    table = read_arff(CARD + b"0,1.50,'0'\n1e3,?,'1'\n,2,0\n", where="x")

    assert table.to_pydict() == {"Time": ["0", "1e3", None], "Amount": ["1.50", None, "2"], "Class": ["0", "1", "0"]}
    assert set(table.schema.types) == {pa.string()}


def test_all_of_the_grammar():
    text = rb"""%comment
@relation x

  @ATTRIBUTE 'a name' string
@attribute "b\"q" {a,'b c', "d'e" , 'f\'g' }
@attribute c date "yyyy-MM-dd HH:mm"
@attribute d{0,1}
@data
% a comment, with commas
 'it\'s 100% {ok}, \u00e9\n' , a , '2013-09-01 00:00' , 1
"?", 'b c', ?,?
?,"d'e",'',0

x,'f\'g',,1
% the end
"""
    table = read_arff(b"\xef\xbb\xbf" + text.replace(b"\n", b"\r\n"), where="x")

    assert table.to_pydict() == {
        "a name": ["it's 100% {ok}, é\n", "?", None, "x"],
        'b"q': ["a", "b c", "d'e", "f'g"],
        "c": ["2013-09-01 00:00", None, "", None],
        "d": ["1", None, "0", "1"],
    }


def test_plain_rows_take_the_fast_path_and_doubtful_ones_do_not():
    assert arff._is_plain(b"1,'a',?\r\n2,'b,c',\r\n")
    for doubtful in (
        b"1, 2\n",
        b"1,'it''s'\n",
        b"1,it's\n",
        b"'a\nb'\n",
        b"'a\n",
        b"1,\\'\n",
        b'"a"\n',
        b"1\r2\n",
        b"{1 2}\n",
    ):
        assert not arff._is_plain(doubtful)


_VALUE = st.one_of(
    st.sampled_from(
        [
            "",
            "?",
            "1.5",
            "-2e-3",
            "'0'",
            "'a,b'",
            "''",
            "'?'",
            "'it''s'",
            "'",
            "x'y",
            "'x'y",
            '"',
            "a b",
            "é",
            "\r",
            "%",
        ]
    ),
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
)
_ROWS = st.lists(st.lists(_VALUE, min_size=2, max_size=2), min_size=1, max_size=6)


@given(_ROWS, st.sampled_from(["\n", "\r\n"]))
def test_the_fast_path_reads_what_the_grammar_says_or_nothing(rows: list[list[str]], end: str):
    data = "".join(",".join(row) + end for row in rows).encode()
    attributes = [arff._Attribute("a", None), arff._Attribute("b", None)]
    fast = arff._read_plain(data, attributes) if arff._is_plain(data) else None
    try:
        slow = arff._tokenized(data, attributes, first_line=1, where="x").to_pydict()
    except SourceError:
        slow = None

    assert fast is None or fast.to_pydict() == slow


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (CARD + b"0,1,'0'\n1,2\n", "line 9 has 2 values for 3 attributes"),
        (CARD + b"0,1,'0'\n% a comment\n1,2,'0',9\n", "line 10 has 4 values for 3 attributes"),
        (CARD + b"0,1,'0\n", "line 8 is not a list of values"),
        (CARD + b"0,1 2,0\n", "line 8 is not a list of values"),
        (CARD + b"0,1,0,{5}\n", "line 8 is not a list of values"),
        (CARD + b"0,1,'2'\n1,1,3\n", r"2 value\(s\) of Class are not among those declared, '2' for one"),
        (CARD + b"{0 1, 2 '1'}\n", "line 8 is a sparse row"),
        (CARD, "no rows after @data"),
        (CARD + b"0,1,'\xe9'\n", "not UTF-8 text: line 8"),
        (HEAD, "no @data line"),
        (b"", "no @data line"),
        (b"<!DOCTYPE html>\n<html></html>\n", "line 1 is not part of an ARFF header"),
        (b"@relation x\n@data\n1\n", "line 2 is not part of an ARFF header"),
        (b"@relation x\n@attribute a relational\n@data\n", "line 2 declares no dense attribute"),
        (b"@relation x\n@attribute a\n@data\n1\n", "line 2 declares no dense attribute"),
        (b"@relation x\n@attribute a {0,1\n@data\n1\n", "line 2 declares no dense attribute"),
        (b"@relation x\n@attribute a {0,'1}\n@data\n1\n", "line 2 declares no dense attribute"),
    ],
)
def test_broken_files_are_refused(text: bytes, problem: str):
    with pytest.raises(SourceError, match=problem) as raised:
        read_arff(text, where="openml:x@1")
    assert raised.value.where == "openml:x@1"


def test_many_rows_keep_their_order_on_both_paths():
    rows = arff._ROWS_PER_BATCH + 7
    plain = b"".join(b"%d,1,'0'\n" % number for number in range(rows))
    for data in (plain, plain.replace(b",1,", b", 1,")):
        table = read_arff(CARD + data, where="x")
        assert table.column("Time").cast(pa.int64()).to_pylist() == list(range(rows))
        assert table.column("Amount").unique().to_pylist() == ["1"]
