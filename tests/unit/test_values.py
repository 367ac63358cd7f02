"""Values as JSON can carry them: what becomes what, and what is refused with its place."""

from __future__ import annotations

import json
from collections import OrderedDict
from dataclasses import dataclass
from datetime import date, datetime, timedelta, timezone
from enum import Enum, IntEnum
from fractions import Fraction
from pathlib import Path, PureWindowsPath
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapi_jupyter.core.errors import BadRequest, TooLarge
from taskapi_jupyter.core.nesting import MAX_DEPTH
from taskapi_jupyter.deploy.literals import NotLiteral, literal
from taskapi_jupyter.deploy.values import plain, plain_config


class Colour(str, Enum):
    RED = "red"


class Level(IntEnum):
    HIGH = 3


class Flags(int):
    pass


class Rate(float):
    pass


class Place(NamedTuple):
    x: int
    y: str


class Scalar:
    """As NumPy, PyTorch and JAX have them: no value of Python's own, but one that can be had."""

    dtype, shape = object(), ()

    def __init__(self, value: Any) -> None:
        self.value = value

    def item(self) -> Any:
        return self.value


class Dtype:
    kind = "M"


class Moment(Scalar):
    """As NumPy's datetime64, whose ``item`` is a number where it has nanoseconds."""

    dtype: Any = Dtype()

    def __str__(self) -> str:
        return str(self.value)


class NaTType(datetime):
    """As pandas' NaT."""

    def __str__(self) -> str:
        return "NaT"


class Array:
    dtype, shape = object(), (2,)

    def tolist(self) -> list[int]:
        return [1, 2]


@dataclass
class Options:
    lr: float


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"a": {"b": None}}, {"a": {"b": None}}),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (Place(1, "z"), [1, "z"]),
        (Colour.RED, "red"),
        ({Colour.RED: Level.HIGH}, {"red": 3}),
        (Flags(3), 3),
        (Rate(0.5), 0.5),
        (True, True),
        (2**70, 2**70),
        (date(2024, 5, 6), "2024-05-06"),
        (datetime(2024, 5, 6, 7, 8, 9, 10, timezone.utc), "2024-05-06T07:08:09.000010+00:00"),
        (Path("/data/x.csv"), "/data/x.csv"),
        (PureWindowsPath("C:/x"), "C:\\x"),
        ([{"when": date(2024, 5, 6), "where": (Path("a/b"),)}], [{"when": "2024-05-06", "where": ["a/b"]}]),
        (Scalar(0.1), 0.1),
        ([Scalar(3), {"a": Scalar(True)}], [3, {"a": True}]),
        (Scalar(Fraction(1, 4)), 0.25),  # as of NumPy's longdouble, whose item is its own kind of real number
        (Moment("2024-05-06T07:08:09.123456789"), "2024-05-06T07:08:09.123456789"),
        (nested(MAX_DEPTH), nested(MAX_DEPTH)),
    ],
)
def test_values_become_plain(value: Any, expected: Any) -> None:
    found = plain(value, "x")
    assert found == expected
    assert type(found) is type(expected)
    assert json.dumps(found) == json.dumps(expected)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (b"x", "x is a bytes, which JSON can't carry"),
        ({1}, "x is a set, which JSON can't carry; write a list"),
        (object(), "x is a object, which JSON can't carry"),
        ({"a": [0, print]}, "x.a[1] is a builtin_function_or_method, which JSON can't carry"),
        ([range(3)], "x[0] is a range, which JSON can't carry"),
        (Array(), "x is a Array, which JSON can't carry; .tolist() makes it a list"),
        (Enum("Shade", "DARK").DARK, "x is a Shade, which JSON can't carry; its .value may do"),  # type: ignore[attr-defined]
        (Options(0.1), "x is a Options, which JSON can't carry"),
        (timedelta(1), "x is a timedelta, which JSON can't carry"),
        (NaTType(2024, 1, 1), "x is a NaTType, which JSON can't carry"),
        (Moment("NaT"), "x is a Moment, which JSON can't carry"),
        ({1: 2}, "the key 1 in x is not text; put it in quotes"),
        ({"a": {None: 2}}, "the key None in x.a is not text; put it in quotes"),
        ({(1, 2): 2}, "the key (1, 2) in x is not text; put it in quotes"),
        (float("nan"), "x is nan, which JSON can't carry"),
        ({"a": [1, float("-inf")]}, "x.a[1] is -inf, which JSON can't carry"),
        (Scalar(float("nan")), "x is nan, which JSON can't carry"),
        ("\ud800", "x is not valid Unicode text"),
        ({"\ud800": 1}, "x is not valid Unicode text"),
        (nested(MAX_DEPTH + 1), "x[0][0][0]"),
    ],
)
def test_what_json_cannot_carry_is_refused_with_its_place(value: Any, words: str) -> None:
    with pytest.raises(BadRequest) as caught:
        plain(value, "x")
    assert caught.value.message.startswith(words)


def test_a_number_that_python_does_not_write_is_refused() -> None:
    with pytest.raises(BadRequest, match=r"x\.a is a number of more than 4000 digits"):
        plain({"a": 10**5000}, "x")
    with pytest.raises(BadRequest, match="the key a int in x is not text"):
        plain({10**5000: 1}, "x")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(BadRequest, match="nested deeper than 64 levels, or contains itself"):
        plain(value, "x")
    wide: list[Any] = [1]
    for _ in range(30):  # small, and 2**30 values when written
        wide = [wide, wide]
    with pytest.raises(TooLarge, match="x is too large: it has more than 10000 values"):
        plain(wide, "x", nodes=10_000)


def test_a_config_names_its_keys() -> None:
    assert plain_config({"x": nested(MAX_DEPTH), "when": date(2024, 5, 6)})["when"] == "2024-05-06"
    for config, words in (
        ({"lr": float("nan")}, "config.lr is nan"),
        ({"a": {"b": object()}}, "config.a.b is a object"),
        ({"x": nested(MAX_DEPTH + 1)}, "config.x[0]"),
        ({1: 2}, "the key 1 in config is not text"),
        ([1], "config must be a mapping of names to values, not a list"),
    ):
        with pytest.raises(BadRequest) as caught:
            plain_config(config)  # type: ignore[arg-type]
        assert caught.value.message.startswith(words)


@given(st.text(alphabet="[]{}()'\"\\,:#$ \nab01.-_e") | st.text())
def test_any_text_is_a_literal_or_none(text: str) -> None:
    try:
        found = literal(text, lambda name: name)
    except (NotLiteral, BadRequest):
        return
    try:
        json.dumps(plain(found, "x"), allow_nan=False)
    except BadRequest:
        pass


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    )
)
def test_what_python_and_json_write_is_read_back(value: Any) -> None:
    for text in (repr(value), json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        found = literal(text)
        assert found == value
        assert type(found) is type(value)
