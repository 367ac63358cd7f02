"""How a line of ``%taskapi`` is split and read."""

from __future__ import annotations

import json
import shlex
from collections import OrderedDict
from contextlib import suppress
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapi_jupyter.magics.line import Line, LineError, parse, plain_value, split
from taskapi_jupyter.magics.verbs import VERBS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[A-Za-z_]\w*", fullmatch=True).filter(str.isidentifier)


def texts(line: str) -> list[str]:
    return [token.text for token in split(line)]


def config(line: str, **variables: Any) -> dict[str, Any]:
    return parse(f"submit api {line}", variables).config


def refused(line: str, **variables: Any) -> str:
    with pytest.raises(LineError) as caught:
        parse(line, variables)
    return str(caught.value)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", []),
        (" \t ", []),
        ("a  b\tc", ["a", "b", "c"]),
        ("a='b c' \"d e\"", ["a=b c", "d e"]),
        ("''", [""]),
        ("a''b", ["ab"]),
        ("'a'\"b\"c", ["abc"]),
        (r"a\ b \"c\" \'d\'", ["a b", '"c"', "'d'"]),
        (r"C:\new\path \d+ '\n' \\", [r"C:\new\path", r"\d+", r"\n", "\\"]),
        (r'"say \"x\" and \\ and \n"', [r'say "x" and \ and \n']),
        ("layers=[64, 32] x", ["layers=[64, 32]", "x"]),
        ('--config {"a": {"b": [1, 2]}} y', ["--config", '{"a": {"b": [1, 2]}}', "y"]),
        ('--config={"a": "x y"}', ['--config={"a": "x y"}']),
        ("a=[1, b]", ["a=[1,", "b]"]),
        ("a=[1]x", ["a=[1]x"]),
        ("日本=語 é", ["日本=語", "é"]),
    ],
)
def test_splitting(line: str, expected: list[str]) -> None:
    assert texts(line) == expected


@pytest.mark.parametrize("line", ["'", '"', "a='b", 'a "b c', "'\\'"])
def test_quotations_must_be_closed(line: str) -> None:
    if line == "'\\'":
        assert texts(line) == ["\\"]
        return
    with pytest.raises(LineError, match="is not closed"):
        split(line)


@given(st.lists(st.text(), max_size=5))
def test_what_a_shell_would_quote_comes_back(words: list[str]) -> None:
    assert texts(" ".join(map(shlex.quote, words))) == words


@given(st.text())
def test_any_line_is_read_or_refused_in_words(line: str) -> None:
    for verb in ("", *VERBS):
        with suppress(LineError):
            json.dumps(parse(f"{verb} {line}", {}).config, allow_nan=False).encode()


@given(st.dictionaries(NAMES, JSON, max_size=4))
def test_values_are_json(values: dict[str, Any]) -> None:
    line = " ".join(f"{key}={shlex.quote(json.dumps(value))}" for key, value in values.items())
    assert config(line) == values
    assert config(f"--config {shlex.quote(json.dumps(values))}") == {}
    assert parse(f"submit api --config {shlex.quote(json.dumps(values))}", {}).options["config"] == values


@given(st.dictionaries(NAMES, st.lists(JSON) | st.dictionaries(st.text(), JSON), max_size=3))
def test_lists_and_objects_need_no_quotes(values: dict[str, Any]) -> None:
    assert config(" ".join(f"{key}={json.dumps(value)}" for key, value in values.items())) == values


@given(NAMES, JSON)
def test_variables_are_values(name: str, value: Any) -> None:
    assert config(f"x=${name} y=${{{name}}}", **{name: value}) == {"x": value, "y": value}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ("True", "True"),
        ("abc", "abc"),
        ("", ""),
        ("1,2", "1,2"),
        ("01", "01"),
        ("a=b", "a=b"),
        ("'\"5\"'", "5"),
        ("'5'", 5),
        ('"a b"', "a b"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("'[1, 2]'", [1, 2]),
        ("$5", "$5"),
        ("$a.b", "$a.b"),
        ("$a$a", "$a$a"),
        ("'$a'", "$a"),
        ('"$a"', "$a"),
        (r"\$a", "$a"),
        ("$", "$"),
        ("${a", "${a"),
        ("$a", "value"),
        ("${a}", "value"),
        ("9" * 5000, "9" * 5000),
        ("[" * 5000, "[" * 5000),
    ],
)
def test_values(text: str, value: Any) -> None:
    assert config(f"x={text}", a="value") == {"x": value}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("submit api x=1e999", "x is inf"),
        ("submit api x=[1e999]", "x[0] is inf"),
        ("submit api x=$missing", "there is no variable missing"),
        ("submit $missing", "there is no variable missing"),
        ("submit api x=1 x=2", "x is given twice"),
        ("submit api =1", "'=1' has no name"),
        ("submit api --config [1]", "--config is a JSON object or a dict, not [1]"),
        ("submit api --config nope", "--config is not valid JSON: 'nope'"),
        ("submit api --config", "--config needs a value: --config JSON"),
        ("submit api --config=", "--config is not valid JSON: ''"),
        ("submit api --timeout 1.5", "--timeout is a whole number, not '1.5'"),
        ("submit api --timeout -1", "--timeout can't be negative"),
        ("submit api --wait=yes", "--wait takes no value"),
        ("submit api --cpu 1", "there is no option '--cpu'"),
        ("logs x --tial 3", "there is no option '--tial'; did you mean --tail?"),
        ("deploy x --env-var A", "--env-var is written --env-var K=V, not 'A'"),
        ("deploy x --env-var =1", "--env-var is written --env-var K=V, not '=1'"),
        ("nothing", "there is no verb 'nothing' (%taskapi help lists them)"),
        ("sumbit api", "there is no verb 'sumbit'; did you mean submit? (%taskapi help lists them)"),
        ("'' x", "there is no verb ''"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    assert words in refused(line)


def test_a_line_with_everything() -> None:
    variables = {"n": 7, "cfg": OrderedDict(a=(1, 2)), "name": "api"}
    read = parse("deploy $name --cpu 500m --mem=1Gi --gpu $n --env-var A=$n --env-var B='x=y' --config $cfg", variables)
    assert read == Line(
        VERBS["deploy"],
        ["api"],
        {},
        {"cpu": "500m", "mem": "1Gi", "gpu": 7, "env_var": {"A": "7", "B": "x=y"}, "config": {"a": [1, 2]}},
    )
    assert parse("get", {}).verb is VERBS["status"]
    assert parse("", {}).verb is VERBS["help"]
    assert parse("logs x -n5 -f", {}).options == {"tail": 5, "follow": True}
    assert parse("logs x -n 5", {}).options == {"tail": 5}
    assert parse("stop -- --all", {}).words == ["--all"]
    assert parse("stop '--all'", {}).words == ["--all"]
    assert parse("submit api x=1", {}, cell=True).config == {"x": 1}
    assert parse("submit api --gpu 1", {}, cell=True).options == {"gpu": 1}
    job = object()
    assert parse("wait $job a", {"job": job}).words == [job, "a"]
    assert parse("deploy a=b.yaml", {}).words == ["a=b.yaml"]


class Colour(str, Enum):
    RED = "red"


class Flags(int):
    pass


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        ((1, [2, (3,)]), [1, [2, [3]]]),
        ({"a": {"b": None}}, {"a": {"b": None}}),
        (Colour.RED, "red"),
        (Flags(3), 3),
        (True, True),
        (2**70, 2**70),
    ],
)
def test_values_become_plain(value: Any, plain: Any) -> None:
    found = plain_value(value, "x")
    assert found == plain
    assert type(found) is type(plain)
    assert json.dumps(found) == json.dumps(plain)


@pytest.mark.parametrize(
    "value", [b"x", {1}, object(), {1: 2}, float("nan"), "\ud800", {"\ud800": 1}, [range(3)], print]
)
def test_what_json_cannot_carry_is_refused(value: Any) -> None:
    with pytest.raises(LineError):
        plain_value(value, "x")


def test_a_value_that_holds_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(LineError, match="nested too deeply"):
        plain_value(value, "x")
