"""Tasks of parameters: how they are read from sources and callables, described, and held against a config."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Callable
from textwrap import dedent
from typing import Any, Literal

import msgspec
import pytest

from support import request_for
from taskapi_jupyter.core.contract import DeployRequest
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy import callables
from taskapi_jupyter.deploy.api_spec import build as api_spec
from taskapi_jupyter.deploy.api_spec import parameters, task_source
from taskapi_jupyter.deploy.prepare import DeployOptions, Source, prepare
from taskapi_jupyter.service.service import Service

DOC = {"lr": "Step size of the optimiser; cut once it is reached.", "epochs": "How often.", "rest": "All else: layers."}
STYLES = {
    "numpy": """\
        Train.

        Parameters
        ----------
        lr : float, optional
            Step size of the optimiser;
            cut once it is reached.

            A second paragraph.
        epochs, other : int
            How often.
        **rest
            All else: layers.

        Returns
        -------
        lr : float
            Not this one.
        """,
    "google": """\
        Train.

        Args:
            lr (float, optional): Step size of the optimiser;
                cut once it is reached.
            epochs: How often.
                note: no parameter

            **rest: All else: layers.

        Returns:
            lr: Not this one.
        """,
    "rest": """\
        Train.

        :param float lr: Step size of the optimiser;
            cut once it is reached.
        :param epochs: How often.
        :param rest: All else: layers.
        :returns: nothing
        """,
    "none": "Train with lr: fast.",
}


@pytest.mark.parametrize("style", ["numpy", "google", "rest"])
def test_help_from_a_docstring(style: str) -> None:
    there = [{"name": name, "required": True} for name in ("lr", "epochs", "**rest", "other_one")]
    helped = parameters.documented(there, dedent(STYLES[style]))
    wanted = {**DOC, "epochs": "How often. note: no parameter"} if style == "google" else DOC
    assert {one["name"].lstrip("*"): one["help"] for one in helped if "help" in one} == wanted


def test_no_help_where_there_is_none() -> None:
    assert parameters.documented([{"name": "lr", "required": True}], STYLES["none"]) == [
        {"name": "lr", "required": True}
    ]


def test_help_and_type_are_short() -> None:
    (one,) = parameters.documented(
        [{"name": "lr", "required": True, "type": "A" * 1000}], ":param lr: " + "word " * 1000
    )
    assert (len(one["type"]), one["type"][-1]) == (200, "…")
    assert len(one["help"]) <= 200
    assert one["help"].endswith("word…")


def test_a_docstring_that_is_made_to_be_slow() -> None:
    doc = "Args:\n" + "    " + "a, " * 5000 + "\n" + "  " * 3000 + "x (" * 1000 + ":param " * 500
    begin = time.process_time()
    parameters.documented([{"name": "x", "required": True}], doc)
    assert time.process_time() - begin < 2


# The same from a text and from a callable


def train(
    lr: float = 0.1,
    /,
    epochs: int | None = 3,
    kind: Literal["a", "b"] = "a",
    *more: int,
    betas: tuple[float, float] = (0.9, 0.999),
    data: "str",  # noqa: UP037
    big: float = float("inf"),
    nested: Any = {"a": [1, None, {"b": True}]},  # noqa: B006
    **rest: int,
) -> None:
    """Train.

    Args:
        lr: step size
        rest: all else
    """


TEXT = '''
def train(
    lr: float = 0.1,
    /,
    epochs: int | None = 3,
    kind: Literal['a', 'b'] = "a",
    *more: int,
    betas: tuple[float, float] = (0.9, 0.999),
    data: "str",  # noqa: UP037
    big: float = float("inf"),
    nested: Any = {"a": [1, None, {"b": True}]},  # noqa: B006
    **rest: int,
) -> None:
    """Train.

    Args:
        lr: step size
        rest: all else
    """
'''
TAKEN = [
    {"name": "lr", "required": False, "default": 0.1, "type": "float", "help": "step size"},
    {"name": "epochs", "required": False, "default": 3, "type": "int | None"},
    {"name": "kind", "required": False, "default": "a", "type": "Literal['a', 'b']"},
    {"name": "betas", "required": False, "type": "tuple[float, float]"},
    {"name": "data", "required": True, "type": "str"},
    {"name": "big", "required": False, "type": "float"},
    {"name": "nested", "required": False, "default": {"a": [1, None, {"b": True}]}, "type": "Any"},
    {"name": "**rest", "required": False, "help": "all else"},
]


def built(target: Any, **options: Any) -> api_spec.APISpec:
    (request,) = prepare(target, DeployOptions(name="train", **options))
    return api_spec.build(request)


def shown(target: Any, **options: Any) -> Any:
    return built(target, **options).spec["definition"].get("parameters")


def test_parameters_of_a_cell() -> None:
    assert shown(Source(TEXT)) == TAKEN


def test_parameters_of_a_function() -> None:
    wanted = [dict(one) for one in TAKEN]
    wanted[4]["type"] = "'str'"  # this module's annotations are text, and that one is text in it
    assert shown(train) == wanted


def test_annotations_that_are_objects() -> None:
    def task(a, b, c): ...  # type: ignore[no-untyped-def]

    task.__annotations__ = {"a": float | None, "b": Literal["x", 1], "c": dict[str, int]}
    assert [one["type"] for one in shown(task)] == ["float | None", "Literal['x', 1]", "dict[str, int]"]


def test_a_type_over_several_lines_and_beyond_ascii() -> None:
    text = 'def train(é: "größer" = "ü", lr: Literal[\n    "a",\n    "b",\n] = "a"): ...\n'
    assert shown(Source(text)) == [
        {"name": "é", "required": False, "default": "ü", "type": "größer"},
        {"name": "lr", "required": False, "default": "a", "type": 'Literal[ "a", "b", ]'},
    ]


@pytest.mark.parametrize(
    "default",
    [
        "(1, 2)",
        "{1: 2}",
        "{1, 2}",
        "b'x'",
        "1e999",
        "float('nan')",
        "OTHER",
        "'\\ud800'",
        "'x' * 2",
        "'" + "x" * 5000 + "'",
    ],
)
def test_a_default_that_json_can_not_give_back(default: str) -> None:
    assert shown(Source(f"OTHER = 1\ndef train(lr={default}): ...")) == [{"name": "lr", "required": False}]


def test_defaults_of_callables_that_json_would_change() -> None:
    endless: list[Any] = []
    endless.append(endless)

    class Text(str):
        __slots__ = ()

    for default in ((1, 2), endless, Text("x"), float("nan"), 10**5000, [[Text("x")]], {1: 2}, object()):
        assert not task_source.is_json(default)
    for default in (None, True, 1, -1.5, "é", [], {}, [{"a": [1]}], 10**100):
        assert task_source.is_json(default)


# Callables


class Trainer:
    def __call__(self, lr: float = 0.1, **params: Any) -> Any:
        return [lr, params]

    def fit(self, lr: float, epochs: int = 3) -> Any:
        return [lr, epochs]


def passing(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs)

    return inner


def adapting(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def inner(config: Any) -> Any:
        return function(**config)

    return inner


def simple(lr: float, epochs: int = 3) -> Any:
    return [lr, epochs]


async def waiting(config: Any) -> Any:
    return config


def names(target: Any) -> list[str] | None:
    found = callables.check(target)
    return None if found is None else [one["name"] for one in found]


@pytest.mark.parametrize(
    ("target", "wanted"),
    [
        (lambda config: 1, None),
        (lambda config, n=1, *a, k=2, **rest: 1, None),
        (lambda n=1, *, config=None: 1, ["config"]),
        (waiting, ["config"]),
        (lambda: 1, []),
        (lambda cfg: 1, ["cfg"]),
        (lambda *a, **rest: 1, ["**rest"]),
        (Trainer, ["lr", "**params"]),
        (Trainer(), ["lr", "**params"]),
        (Trainer().fit, ["lr", "epochs"]),
        (functools.partial(simple, 0.5), ["epochs"]),
        (functools.partial(simple, lr=0.5), ["lr", "epochs"]),
        (functools.lru_cache(simple), ["lr", "epochs"]),
        (passing(simple), ["lr", "epochs", "**"]),
        (adapting(simple), None),
        (passing(waiting), ["config"]),
    ],
)
def test_parameters_of_callables(target: Any, wanted: list[str] | None) -> None:
    assert names(target) == wanted


def test_a_partial_keeps_the_help_of_its_function() -> None:
    (one, *_) = callables.check(functools.partial(train, data="x")) or []
    assert one["help"] == "step size"


# In a specification


def test_parameters_are_no_part_of_what_names_an_api() -> None:
    cell = built(Source("def train(lr=0.1): ...\n"))
    given = {**cell.spec, "definition": {**cell.spec["definition"], "parameters": [{"name": "other"}]}}
    request = DeployRequest(spec=given, cwd=os.getcwd())
    again = api_spec.build(msgspec.structs.replace(request, source="def train(lr=0.1): ...\n"))
    assert again.spec == {**cell.spec, "id": again.api_id}
    assert again.spec_id == cell.spec_id
    assert api_spec.parse(cell.spec) == [{key: part for key, part in cell.spec.items() if key not in ("id", "spec_id")}]


def test_an_api_of_config_shows_no_parameters() -> None:
    plain = built(Source("def train(config): ...\n"))
    assert "parameters" not in plain.spec["definition"]
    assert plain.launch["attr"] == "train"
    function = built(waiting)
    assert "parameters" not in function.spec["definition"]
    assert function.launch["attr"].startswith("*")


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lr", "definition.parameters must be a list"),
        ([{"name": "a"}] * 102, "a list of at most 100"),
        ([3], "definition.parameters[0] must be a mapping"),
        ([{"name": "a b"}], "definition.parameters[0].name must be the name of a parameter"),
        ([{}], "definition.parameters[0].name must be the name of a parameter, and is empty"),
        ([{"name": "a", "kind": 1}], "unknown key 'kind' in definition.parameters[0]"),
    ],
)
def test_what_a_kernel_says_of_a_callable_is_checked(value: Any, words: str) -> None:
    request = DeployRequest(spec={"name": "a", "definition": {"parameters": value}}, pickle=b"x", cwd="/")
    with pytest.raises(BadRequest) as caught:
        api_spec.build(request)
    assert words in caught.value.message


@pytest.mark.parametrize("target", [Source("def train(lr=0.1): ..."), lambda lr=0.1: 1])
def test_a_default_config_with_a_key_that_is_no_parameter(target: Any) -> None:
    with pytest.raises(BadRequest) as caught:
        built(target, config={"lrr": 1})
    assert caught.value.message == "train: definition.config: there is no parameter 'lrr': it takes lr"


# At submit

FUNCTION = "def task(data, lr=0.1, epochs=3):\n    return [data, lr, epochs]\n"


@pytest.mark.parametrize(
    ("text", "config", "words"),
    [
        (FUNCTION, {"data": 1, "epoch": 1}, "there is no parameter 'epoch': it takes epochs, lr, data (required)"),
        (FUNCTION, {"data": 1, "x": 1, "y": 2}, "there is no parameters 'x', 'y': it takes "),
        (FUNCTION, {}, "data is missing: it takes data (required), lr, epochs"),
        (FUNCTION, {"dat": 1}, "there is no parameter 'dat' and data is missing: it takes data (required), "),
        ("def task(a, b, **rest): ...", {"c": 1}, "a, b are missing: it takes a (required), b (required), **rest"),
        ("def task(): ...", {"c": 1}, "there is no parameter 'c': it takes none"),
        (
            "def run(cfg): ...",
            {"lr": 1},
            "there is no parameter 'lr' and cfg is missing: it takes cfg (required); a task that takes the whole config "
            "calls its parameter config",
        ),
    ],
)
def test_a_config_that_does_not_fit(service: Service, name: str, text: str, config: Any, words: str) -> None:
    service.deploy_request(request_for(name, text))
    with pytest.raises(BadRequest) as caught:
        service.submit(name, config)
    assert caught.value.message.startswith(f"{name}: {words}")
    assert service.jobs(name) == []
