"""How a line of ``%taskapi`` is split and read."""

from __future__ import annotations

import json
import shlex
from collections import OrderedDict
from contextlib import suppress
from keyword import iskeyword
from typing import Any
from unicodedata import normalize

import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskapi_jupyter.ui.magics.line import Line, LineError, parse, split
from taskapi_jupyter.ui.verbs import VERBS

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
NAMES = st.from_regex(r"[A-Za-z_]\w*", fullmatch=True).filter(lambda name: name.isidentifier() and not iskeyword(name))


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
        ("d={'a': (1, 2)} l=[1, 'b c'] t=(1, [2, 3]) x", ["d={'a': (1, 2)}", "l=[1, 'b c']", "t=(1, [2, 3])", "x"]),
        (r"x='it\'s fine' y", [r"x=it\'s fine", "y"]),
        ("x=f'run {i} of {n}' y", ["x=run {i} of {n}", "y"]),
        ("a b # c d", ["a", "b"]),
        ("a #b", ["a"]),
        ("# a b", []),
        ("a '#' b#c x=#fff", ["a", "#", "b#c", "x=#fff"]),
        ("x='a # b' # 'c", ["x=a # b"]),
        ("x=[1, '# 2'] y", ["x=[1, '# 2']", "y"]),
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
    given = {normalize("NFKC", name): value}
    assert config(f"x=${name} y=${{{name}}} z={{{name}}}", **given) == {"x": value, "y": value, "z": value}
    assert config(f"l=[${name}, {{{name}}}]", **given) == {"l": [value, value]}


def test_a_variable_inside_a_word_is_text() -> None:
    found = config("i=$i out=out-{i}.csv name=run-$i lr=1e-{i} version={i}.{j}", i=3, j=10)
    assert found == {"i": 3, "out": "out-3.csv", "name": "run-3", "lr": "1e-3", "version": "3.10"}
    assert parse("logs {job} -n {n}", {"job": 7, "n": 5}) == Line(VERBS["logs"], [7], {}, {"tail": 5})
    read = parse("deploy run-$i --mem {i}Gi --env-var A=x{i} --env-var B=f'{i} {j}' --function {f}", {"i": 3, "j": 4})
    assert read.words == ["run-3"]
    assert read.options == {"mem": "3Gi", "env_var": {"A": "x3", "B": "3 4"}, "function": "f"}


def test_what_stays_as_written_is_noted() -> None:
    def notes(line: str) -> list[str]:
        return parse(f"submit api {line}", {"i": 1}).notes

    assert notes("x='run {i}'") == ["{i} stays as written: quoted text is taken as it is (f'...' is not)"]
    assert notes('x="$i"/b')[0].startswith("$i stays as written")
    assert notes("x=run-{i.real}")[0] == "{i.real} stays as written: only {name} is replaced"
    assert notes("x={i['a b']}.csv")[0] == "{i['a b']} stays as written: only {name} is replaced"
    for line in (
        "x={i}",
        r"x=\{i.real}",
        "x='{other}'",
        r"x=\$i",
        "x=f'{i}'",
        "l=[$i, {i}]",
        "x={{i}}",
        "x=$$i",
        "x={i}-$i",
    ):
        assert notes(line) == [], line


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", 1),
        ("-1.5e3", -1500.0),
        ("true", True),
        ("null", None),
        ("True", True),
        ("False", False),
        ("None", None),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.5", -0.5),
        ("+5", 5),
        ("1_000", 1000),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1_0.5", 10.5),
        ("00.5", "00.5"),
        ("00", "00"),
        ("1__0", "1__0"),
        ("1e", "1e"),
        (".", "."),
        ("1-2", "1-2"),
        ("2024-10-11", "2024-10-11"),
        ("2**3", "2**3"),
        ("1j", "1j"),
        ("...", "..."),
        ("5#fff", "5#fff"),
        ("5)#(", "5)#("),
        ("truE", "truE"),
        ("()", []),
        ("(1, 'b')", [1, "b"]),
        ("(1)", 1),
        ("{'a': 1, 'b': (True, None)}", {"a": 1, "b": [True, None]}),
        ("{'a': true, 'b': -.5}", {"a": True, "b": -0.5}),
        ('{"a": true, "b": null}', {"a": True, "b": None}),
        ("[1_000, 'b', \"c\"]", [1000, "b", "c"]),
        ("{}", {}),
        ("[a,b]", "[a,b]"),
        ("{'a':b}", "{a:b}"),
        (r"'a\tb'", "a\tb"),
        (r"'it\'s'", "it's"),
        (r"r'\d+'", r"\d+"),
        (r"'\d+'", r"\d+"),
        (r"C:\new", r"C:\new"),
        ("'True'", "True"),
        ('"nan"', "nan"),
        ("' 5 '", " 5 "),
        ("'[1]'x", "[1]x"),
        ("'[a]'", "[a]"),
        ("'{\"a\": [1]}'", {"a": [1]}),
        ("\"{'a': [1]}\"", {"a": [1]}),
        ("\"'5'\"", "5"),
        ("abc", "abc"),
        ("", ""),
        ("1,2", "1,2"),
        ("01", "01"),
        ("a=b", "a=b"),
        ("'\"5\"'", "5"),
        ("'5'", "5"),
        ('"a b"', "a b"),
        ("'[1, 2]'", [1, 2]),
        ("$5", "$5"),
        ("$a.b", "value.b"),
        ("$a$a", "valuevalue"),
        ("out-{a}.csv", "out-value.csv"),
        ("{a}.csv", "value.csv"),
        ("'my runs'/$a.csv", "my runs/value.csv"),
        ("${a}_b", "value_b"),
        ("{a}", "value"),
        ("$$a", "$a"),
        ("{{a}}", "{a}"),
        ("x{{a}}$${a}", "x{a}${a}"),
        (r"\{a}", "{a}"),
        (r"x\$a", "x$a"),
        ("{a.b}", "{a.b}"),
        ("{a[0]}", "{a[0]}"),
        ("x{2,3}", "x{2,3}"),
        ("f'run {a}, $a'", "run value, $a"),
        ("f'{{a}}'", "{a}"),
        ("'{a}'", "{a}"),
        ("['{a}', f'{a}']", ["{a}", "value"]),
        ("[$a, {a}, ${a}, '$a']", ["value", "value", "value", "$a"]),
        ("{'k': $a, 'l': [{a}]}", {"k": "value", "l": ["value"]}),
        ("{$a: 1}", {"value": 1}),
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
        ("submit api x={missing}", "there is no variable missing"),
        ("submit api x=out-{missing}.csv", "there is no variable missing"),
        ("submit api x=run-$missing", "there is no variable missing"),
        ("submit api x=[1, $missing]", "there is no variable missing"),
        ("submit api x=f'{missing}'", "there is no variable missing"),
        ("submit api x=$pth", "there is no variable pth; did you mean path?"),
        ("submit api nan=NaN", "nan is nan, which JSON can't carry"),
        ("submit api x=-Infinity", "x is -inf, which JSON can't carry"),
        ("submit api x=inf", "x is inf, which JSON can't carry"),
        ("submit api x={'a': [1, nan]}", "x.a[1] is nan, which JSON can't carry"),
        ('submit api --config {"lr": NaN}', "--config.lr is nan, which JSON can't carry"),
        ("submit api x={1, 2}", "x is a set, which JSON can't carry; write a list"),
        ("submit api x=b'a'", "x is a bytes, which JSON can't carry"),
        ("submit api x={1: 2}", "the key 1 in x is not text; put it in quotes"),
        ("submit api x=f'{path.name}'", "f'...' accepts names only"),
        ("submit api x=f'{path:>9}'", "f'...' accepts names only"),
        ("submit api x=" + "[" * 65 + "]" * 65, "nested deeper than 64 levels"),
        ("submit api x=" + "[" * 5000 + "]" * 5000, "nested deeper than 64 levels"),
        ("submit $missing", "there is no variable missing"),
        ("submit api x=1 x=2", "x is given twice"),
        ("submit api =1", "'=1' has no name"),
        ("submit api --config [1]", "--config must be a JSON object or a dict, not [1]"),
        ("submit api --config nope", "--config must be a JSON object or a dict, not 'nope'"),
        ("submit api --config", "--config needs a value: --config JSON"),
        ("submit api --config=", "--config must be a JSON object or a dict, not ''"),
        ("submit api --timeout 1.5", "--timeout must be a time such as 90 (seconds), 90s, 15m or 1h30m, not '1.5'"),
        ("submit api --timeout -1", "--timeout must be a time such as"),
        ("submit api --timeout 0", "--timeout must be from 1 to"),
        ("logs x -n -1", "--tail can't be negative"),
        ("submit api --wait=yes", "--wait takes no value"),
        ("submit api --cpu 1", "--cpu is for a notebook: give the path of a file that ends in .ipynb"),
        ("logs x --tial 3", "there is no option '--tial'; did you mean --tail?"),
        ("deploy x --env-var A", "write --env-var K=V, not 'A'"),
        ("deploy x --env-var =1", "write --env-var K=V, not '=1'"),
        ("nonsense", "there is no verb 'nonsense' (%taskapi help lists them)"),
        ("sumbit api", "there is no verb 'sumbit'; did you mean submit? (%taskapi help lists them)"),
        ("'' x", "there is no verb ''"),
    ],
)
def test_what_is_refused(line: str, words: str) -> None:
    assert words in refused(line, path="p")


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


@pytest.mark.parametrize("text", ["90", "90s", "1m30s", "$t"])
def test_a_timeout_is_whole_seconds(text: str) -> None:
    for verb in ("submit api", "wait last", "deploy x.yaml"):
        assert parse(f"{verb} --timeout {text}", {"t": 90}).options == {"timeout": 90}
    assert parse("wait last --timeout 0", {}).options == {"timeout": 0}


@pytest.mark.parametrize(
    ("line", "words", "warm"),
    [
        ("deploy train --warm", ["train"], True),
        ("deploy --warm train", ["train"], True),
        ("deploy train --warm numpy,pandas", ["train"], "numpy,pandas"),
        ("deploy --warm=numpy train", ["train"], "numpy"),
        ("deploy train --warm --cpu 2", ["train"], True),
    ],
)
def test_modules_may_follow_warm(line: str, words: list[str], warm: object) -> None:
    read = parse(line, {}, cell=True)
    assert (read.words, read.options["warm"]) == (words, warm)


def test_pairs_do_not_follow_warm() -> None:
    read = parse("submit train --warm lr=0.1", {}, cell=True)
    assert (read.options["warm"], read.config) == (True, {"lr": 0.1})
