"""Errors say what, where and fix, and arrive whole in another process."""

from __future__ import annotations

import copy
import pickle
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from mlops_assets import errors
from mlops_assets.errors import PlatformError, SchemaMismatchError

EVERY = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, PlatformError)]


def refuse(kind: type[PlatformError]) -> None:
    raise kind("two columns are missing", where="day.csv", fix="load the right file")


def test_the_text_is_complete_without_a_traceback():
    with pytest.raises(SchemaMismatchError) as caught:
        refuse(SchemaMismatchError)

    assert str(caught.value) == "two columns are missing [day.csv] Fix: load the right file"


def test_where_and_mend_must_be_given():
    with pytest.raises(TypeError, match="where"):
        PlatformError("something is wrong")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", EVERY)
def test_a_copy_is_the_same_error(kind: type[PlatformError]):
    original = kind("what", where="there", fix="so", transient=True)

    for error in (pickle.loads(pickle.dumps(original)), copy.copy(original)):  # noqa: S301 - our own bytes
        assert type(error) is kind
        assert (error.what, error.where, error.fix, error.transient) == ("what", "there", "so", True)
        assert str(error) == str(original)


def test_an_error_of_another_process_can_be_read():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(refuse, SchemaMismatchError).exception(timeout=60)

    assert isinstance(error, SchemaMismatchError)
    assert error.fix == "load the right file"


def test_every_error_of_the_platform_is_documented():
    assert len(EVERY) >= 10
    assert [kind.__name__ for kind in EVERY if not kind.__doc__] == []
