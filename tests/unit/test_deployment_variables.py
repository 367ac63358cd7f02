"""Which variables make a function large."""

from __future__ import annotations

import functools
from typing import Any

import numpy
import pytest

from taskapi_jupyter.deploy.pickle_size import largest, too_large

MIB = 1 << 20
NAMES = {"table": numpy.zeros(5 * MIB // 8), "weights": b"w" * (2 * MIB), "few": [1, 2], "numpy": numpy}


def notebook(source: str, **names: Any) -> dict[str, Any]:
    """Return the names of a notebook in which a cell ran."""
    main: dict[str, Any] = {"__name__": "__main__", **NAMES, **names}
    exec(source, main)
    return main


def in_mib(found: list[tuple[str, int]]) -> dict[str, int]:
    return {name: count // MIB for name, count in found}


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ("def run(config): return table.sum(), few", {"table": 5}),
        ("def run(config): return few", {"few": 0}),
        ("def run(config): return [table for _ in weights]", {"table": 5, "weights": 2}),
        ("def helper(): return table\ndef run(config): return helper()", {"table": 5}),
        ("def run(config): return run(weights)", {"weights": 2}),
        ("def make():\n  local = table\n  def run(config): return local\n  return run\nrun = make()", {"local": 5}),
        ("def run(config, by=weights, *, of=table): return by", {"of": 5, "by": 2}),
        (
            "class Task:\n  held = table\n  def __call__(self, config): return weights\nrun = Task",
            {"Task.held": 5, "weights": 2},
        ),
        (
            "class Base:\n  held = table\nclass Task(Base):\n  def __call__(self, config): pass\nrun = Task",
            {"Base.held": 5},
        ),
        (
            "class Task:\n  def __init__(self): self.held = table\n  def __call__(self, config): pass\nrun = Task()",
            {"held": 5},
        ),
        (
            "class Task:\n  def __init__(self): self.held = table\n  def go(self, config): pass\nrun = Task().go",
            {"held": 5},
        ),
        (
            "import functools\ndef go(of, config, by): pass\nrun = functools.partial(go, table, by=weights)",
            {"argument 1": 5, "by": 2},
        ),
        (
            "import functools\n@functools.lru_cache\ndef load(): return table\ndef run(config): return load()",
            {"table": 5},
        ),
        ("class Model:\n  data = weights\ndef run(config): return Model()", {"Model.data": 2}),
        ("def run(config): return numpy.array(table)", {"table": 5}),
        (
            "a = b = c = weights\nd = b'd' * (3 << 20)\ne = b'e' * (4 << 20)\ndef run(config): return a, b, c, d, e, table",
            {"table": 5, "e": 4, "d": 3},
        ),
        ("import threading; handle = threading.Lock()\ndef run(config): return handle, weights", {"weights": 2}),
        ("def run(config): return 1", {}),
    ],
)
def test_largest(source: str, wanted: dict[str, int]) -> None:
    assert in_mib(largest(notebook(source)["run"])) == wanted


def test_functions_of_packages_are_not_looked_into() -> None:
    assert largest(functools.partial(numpy.median, NAMES["weights"]))[0][0] == "argument 1"


def test_the_sentence() -> None:
    run = notebook("def run(config): return table, weights, more", more=b"m" * (3 * MIB))["run"]
    assert too_large("too large", run) == (
        "too large; run refers to table (5.0 MiB), more (3.0 MiB) and weights (2.0 MiB): "
        "save them to a file and load it in the task"
    )
    assert too_large("too large", "cortex.yaml") == "too large"
    assert too_large("too large", notebook("def run(config): return 1")["run"]) == "too large"


def test_objects_that_refuse_to_be_looked_into() -> None:
    class Sly:
        def __getattribute__(self, name: str) -> Any:
            raise RuntimeError(name)

        def __call__(self, config: Any) -> None: ...

    assert too_large("too large", Sly()) == "too large"
