"""Input that nobody would write by hand: the parsers of specifications and of lines answer it with a value or in words.

``TASKAPI_FUZZ=100`` tries a hundred times as many examples, other ones each time; without it they are the same always.
(The routes are fuzzed in test_openapi.py, with the same switch.)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.api_spec import build as api_spec
from taskapi_jupyter.deploy.api_spec.variables import COUNTS
from taskapi_jupyter.ui.magics.complete import Completer
from taskapi_jupyter.ui.magics.line import Line, LineError, parse
from taskapi_jupyter.ui.verbs import ALIASES, VERBS

TIMES = int(os.environ.get("TASKAPI_FUZZ", "1"))

pytestmark = [pytest.mark.timeout(0)] if TIMES > 1 else []


def fuzz(examples: int) -> Any:
    """Return the settings of a test that tries so many examples, or many more of them where asked to."""
    quiet = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
    return settings(
        max_examples=examples * TIMES,
        derandomize=TIMES == 1,
        database=None,
        deadline=None,
        suppress_health_check=quiet,
    )


# Specifications

SCALARS = st.one_of(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    st.just(5000).map(lambda digits: 10**digits),
    st.sampled_from([-(2**63) - 1, 1e308, "\0", "\x1b[2J", "\u202e", "x" * 2000, "500m", "1Gi", "$(PATH)", ""]),
)
VALUES = st.recursive(
    SCALARS | st.binary(max_size=4) | st.dates(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inner, max_size=3)
        | st.tuples(inner)
    ),
    max_leaves=6,
)
QUANTITIES = st.from_regex(r"[0-9]{0,3}\.?[0-9]{0,2}(m|Ki|Mi|Gi|K|e3)?", fullmatch=True) | st.integers(-1, 4) | VALUES
COMPUTE = st.fixed_dictionaries({}, optional=dict.fromkeys(("cpu", "mem", "gpu", "shm", "inf"), QUANTITIES)) | VALUES
ENV = st.dictionaries(st.sampled_from(["A", "B_2", "TASKAPI_X", "1", "é", ""]), SCALARS, max_size=3) | VALUES
WORDS = (
    st.lists(st.sampled_from(["python", "x.py", "-c", "$(A)", "$$(A)", "/dev/zero.py"]) | SCALARS, max_size=3) | VALUES
)
DEFINITION = {
    "path": st.sampled_from(["task.py", "../task.py", "/dev/zero", "x.ipynb", "task.pickle", "fifo"]) | VALUES,
    "config": st.dictionaries(st.text(max_size=4), VALUES, max_size=3) | VALUES,
    "python_path": st.sampled_from([".", "/", "absent"]) | VALUES,
    "env": ENV,
    "log_level": st.sampled_from(["debug", "loud"]) | VALUES,
    "function": st.sampled_from(["task", "other"]) | VALUES,
    "image": VALUES,
}
CONTAINER = {"name": VALUES, "command": WORDS, "args": WORDS, "env": ENV, "compute": COMPUTE, "image": VALUES}
POD = st.fixed_dictionaries(
    {"containers": st.lists(st.fixed_dictionaries({}, optional=CONTAINER), max_size=2) | VALUES},
    optional={"port": VALUES},
)
#: Like what people write, with any part of it gone wrong.
APIS = st.fixed_dictionaries(
    {"name": st.sampled_from(["trainer", "a-b", "-"]) | VALUES},
    optional={
        "kind": st.just("TaskAPI") | VALUES,
        "definition": st.fixed_dictionaries({}, optional=DEFINITION) | VALUES,
        "pod": POD,
        "compute": COMPUTE,
        "networking": st.fixed_dictionaries({}, optional={"endpoint": VALUES}) | VALUES,
        "timeout": st.integers() | VALUES,
        "python": st.just("absent") | VALUES,
        "unknown": VALUES,
    },
)
GOOD = st.fixed_dictionaries(
    {"name": st.from_regex(r"[a-z][a-z0-9_-]{0,9}[a-z]", fullmatch=True)},
    optional={"timeout": st.integers(1, 10**9), "networking": st.fixed_dictionaries({"endpoint": st.just("/x/y")})},
)
COMPUTE_GOOD = {
    "cpu": st.integers(1, 8000).map("{}m".format),
    "mem": st.integers(2**20, 2**40),
    "gpu": st.integers(0, 4),
}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def accepted(draw: st.DrawFn) -> dict[str, Any]:
    """Draw an API that is to be accepted."""
    api: dict[str, Any] = draw(GOOD)
    compute = draw(st.fixed_dictionaries({}, optional=COMPUTE_GOOD))
    env = draw(
        st.dictionaries(st.from_regex(r"[A-Z_]{1,5}", fullmatch=True), st.integers() | st.just("é x"), max_size=2)
    )
    if draw(st.booleans()):
        config = draw(st.dictionaries(st.text(max_size=5), JSON, max_size=3))
        return {**api, "definition": {"path": "task.py", "config": config, "env": env}, "compute": compute}
    command = ["python", *draw(st.lists(st.text(max_size=5).filter(lambda text: "\0" not in text), max_size=2))]
    return {**api, "pod": {"containers": [{"command": command, "env": env, "compute": compute}]}}


TOKENS = st.sampled_from(
    ["0x1f", *"-?:,[]{}#&*!|>'\"%@`\n \t", "\n  ", "- ", ": ", "<<: ", "&a ", "*a", "name", "a", "definition", "1:1"]
    + [f"!!{tag} " for tag in ("binary", "set", "omap", "pairs", "timestamp", "int", "float", "bool", "null", "merge")]
    + ["2020-13-40", ".inf", "-.NaN", "=", "~", "\x00", "\x85", "\u2028", "\ufeff", "\ud800", "0o17", "1_0", "12e999"]
)


def parsed(text: Any) -> list[dict[str, Any]] | None:
    """Return the APIs, None where they are refused in words; whatever else is raised fails the test."""
    try:
        return api_spec.parse(text)
    except BadRequest as error:
        assert str(error)
        assert len(str(error)) < 1000
        return None


@fuzz(150)
@given(st.lists(TOKENS, max_size=25).map("".join) | st.text(max_size=40) | st.binary(max_size=40))
@example("!!timestamp x")
@example("!!bool x")
@example('!!int ""')
@example("a: 1" + ":1" * 399 + ".5")
@example("- &a {<<: *a}")
def test_any_text_is_a_configuration_or_refused_in_words(text: str | bytes) -> None:
    apis = parsed(text)
    if apis is not None:
        assert parsed(yaml.safe_dump(apis)) == apis
        json.dumps(apis, allow_nan=False)


@fuzz(60)
@given(VALUES | APIS | st.lists(APIS, max_size=2))
def test_any_value_is_a_configuration_or_refused_in_words(value: Any) -> None:
    apis = parsed(value)
    if apis is not None:
        assert parsed(apis) == apis
        json.dumps(apis, allow_nan=False)


SOURCES = st.sampled_from(
    ["def task(config): pass", "class Task:\n  def __call__(self, config): 1", "def", "%matplotlib", "\0", "\ud800"]
    + [f"# coding: {name}\nTask = 1" for name in ("utf-8", "undefined", "idna", "zlib", "latin-1", "utf-16", "\udcff")]
    + ["(" * 3000, "x = " + "-" * 20_000 + "1", "lambda config: 1", "Task = lambda config: 1", "async def f(config): 1"]
) | st.text(max_size=20)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a task in it, and with what would hold its reader."""
    folder = tmp_path_factory.mktemp("project")
    (folder / "task.py").write_text("def task(config):\n    return config\n")
    os.mkfifo(folder / "fifo")
    os.mkfifo(folder / "x.py")
    return folder


@fuzz(100)
@given(APIS, st.none() | SOURCES, st.sampled_from([None, None, b"", b"cos\nsystem\n."]))
def test_any_specification_is_built_or_refused_in_words(
    project: Path, api: dict[str, Any], source: str | None, pickle: bytes | None
) -> None:
    try:
        built = api_spec.build(DeployRequest(spec=api, source=source, pickle=pickle, cwd=str(project), environ={}))
    except BadRequest as error:
        assert "\n" not in str(error)
        return
    json.dumps([built.spec, built.launch, built.config], allow_nan=False)


@fuzz(60)
@given(accepted())
def test_what_is_accepted_survives_a_round_trip(project: Path, api: dict[str, Any]) -> None:
    def build(api: dict[str, Any]) -> api_spec.APISpec:
        built = api_spec.build(DeployRequest(spec=api, cwd=str(project), environ={}))
        built.launch["env"] = {key: one for key, one in built.launch["env"].items() if key not in COUNTS}
        return built  # a specification shows the cores that it did not ask for, and asks for them when it is read

    built = build(api)
    again = {key: value for key, value in built.spec.items() if key not in ("id", "spec_id")}
    (read,) = api_spec.parse(yaml.safe_dump([again]))
    assert build(read) == built
    assert build(json.loads(json.dumps(again))) == built


#: Small texts that stand for what is large, or takes long. A child process tries them, with little time and memory.
BOMBS = """
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, (20, 20))
from taskapi_jupyter.deploy.api_spec import build as api_spec
from taskapi_jupyter.core.errors import BadRequest
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
names = "abcdefghij"
def laughs(begin, first, each):
    return begin + first + "".join(each % (here, ",".join(["*" + there] * 10)) for there, here in zip(names, names[1:]))
api = "- name: x\\n  a: "
bombs = {
    "laughs": laughs("- - - ", "&a [x,x,x,x,x,x,x,x,x,x]\\n", "    - &%s [%s]\\n"),
    "laughs in a mapping": laughs(api + "\\n", "   - &a [x,x]\\n", "   - &%s {k: [%s]}\\n"),
    "merges": laughs(api + "\\n", "   - &a {k: 1, l: 2}\\n", "   - &%s {<<: [%s]}\\n"),
    "a long text many times": api + "&t " + "x" * 200_000 + "\\n  b: [" + "*t," * 50_000 + "]",
    "to the base of 60": api + "1" + ":1" * 200_000,
    "to the base of 60, with a point": api + "1" + ":1" * 200_000 + ".5",
    "a long number": api + "1" * 500_000,
    "a long hexadecimal number": api + "0x" + "f" * 100_000,
    "a long name": "- name: 0x" + "f" * 390,
    "deep lists": "[" * 300_000,
    "deep mappings": "{a: " * 100_000,
    "deep blocks": "- " * 200_000 + "x",
    "itself": "- &a {name: x, b: *a}",
    "nothing but questions": "? " * 100_000,
    "a long line": "a" * 1_000_000,
    "anchors": "[" + ",".join("&a%d x" % n for n in range(40_000)) + "]",
}
for what, text in bombs.items():
    try:
        api_spec.parse(text)
        answer = "taken"
    except BadRequest as error:
        assert len(str(error)) < 500, what
        answer = "refused"
    print(what, answer, sep=": ", flush=True)
print("all")
"""


def test_small_texts_that_stand_for_large_ones() -> None:
    done = subprocess.run([sys.executable, "-c", BOMBS], capture_output=True, text=True, timeout=100, check=False)
    assert done.stdout.endswith("all\n"), done.stdout + done.stderr[-2000:]
    assert "a long text many times: refused" in done.stdout
    assert "laughs: refused" in done.stdout


# Lines of the magic


class Unshowable:
    """A variable of a notebook that can't be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")


VARIABLES: dict[str, Any] = {
    "x": 1,
    "config": {"a": [1, (2, {"b": None})]},
    "text": "\ud800",
    "nan": float("nan"),
    "thing": object(),
    "unshowable": Unshowable(),
    "huge": 10**5000,
    "keys": {1: 2, "\ud800": Unshowable()},
    "itself": [],
}
VARIABLES["itself"].append(VARIABLES["itself"])
PIECES = st.sampled_from(
    [*VERBS, *ALIASES, *{option.name for verb in VERBS.values() for option in verb.taken(True)}]
    + [*" =\"'\\$-[]{},:%!#\n\t", "  ", "--", "-n", "-n5", "-n²", "-f", "=1", "= ", "last", "a.yaml", "1e999", "NaN"]
    + [f"${name}" for name in VARIABLES]
    + [
        "${x}",
        "$nothing",
        "${",
        "$1",
        "{x}",
        "\u0661",
        "é",
        "\0",
        "\x1b[31m",
        "\u202e",
        "\ud800",
        "[" * 2000,
        "9" * 5000,
    ]
)
LINES = st.lists(PIECES, max_size=10).map("".join) | st.lists(PIECES, max_size=8).map(" ".join) | st.text(max_size=30)


@fuzz(250)
@given(st.sampled_from([*VERBS, ""]), LINES, st.booleans())
@example("submit", "api --config $unshowable", False)
@example("status", "--limit $huge", False)
def test_any_line_is_a_command_or_refused_in_words(verb: str, line: str, cell: bool) -> None:
    try:
        read = parse(f"{verb} {line}", VARIABLES, cell=cell)
    except LineError as error:
        assert str(error)
        return
    assert isinstance(read, Line)
    json.dumps(read.config, allow_nan=False).encode()


def hopeless(what: str) -> list[str]:
    """Stand for a server that is away."""
    raise OSError(what)


@fuzz(150)
@given(st.sampled_from(["%taskapi ", "%%taskapi ", "job = %taskapi ", "taskapi ", ""]), LINES, st.booleans())
def test_completion_never_raises(begin: str, line: str, away: bool) -> None:
    completer = Completer(hopeless if away else lambda what: [what], VARIABLES)
    words = completer(SimpleNamespace(user_ns_hidden={}), SimpleNamespace(text_until_cursor=begin + line))
    assert all(isinstance(word, str) for word in words)
    completer._hidden = ()
    completer.complete(begin + line)  # which the hook would keep quiet about
