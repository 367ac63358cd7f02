"""``@taskapi_jupyter.task``: what a job gives is what a call gives, under a server and without one."""

from __future__ import annotations

import asyncio
import multiprocessing
import pickle
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from threading import Lock
from typing import Any

import cloudpickle
import pytest

import taskapi_jupyter
from support import PATIENCE
from support.kernels import Kernel
from taskapi_jupyter import environments
from taskapi_jupyter.core.errors import BadRequest, JobFailed, TooLarge
from taskapi_jupyter.deploy.arguments import PICKLED, decoding, encoded
from taskapi_jupyter.service.service import Service

TRAIN = """
import asyncio, collections, datetime, functools, pathlib, taskapi_jupyter
class Net:
    def __init__(self, *sizes): self.sizes = sizes
    def __eq__(self, other): return type(self) is type(other) and self.sizes == other.sizes
Split = collections.namedtuple("Split", "train test")
def doubled(x): return x * 2
@taskapi_jupyter.task(cpu=0.01, env={"SEEN": "yes"})
def train(lr, net=Net(1), *, split=Split([1], {2}), **more):
    "Train it."
    return {"lr": doubled(lr), "net": net, "split": split, "more": more, "is": type(lr) is float}
@taskapi_jupyter.task(cpu=0.01)
async def both(config):
    await asyncio.sleep(0)
    return train(**config), [train(1, split=()), type(train).__name__, __import__("os").environ.get("SEEN")]
def same(one, other): return one == other and type(one) is type(other)
"""


def said(notebook: Kernel, code: str) -> list[str]:
    """Return what code printed, without the bar of a job that was waited for."""
    shown = notebook.show(dedent(code))
    assert not shown.error, shown.error
    return shown.text.splitlines()


def test_what_a_call_gives_is_what_a_job_gives(notebook: Kernel) -> None:
    assert said(notebook, TRAIN) == []
    code = """
    day = datetime.date(2026, 11, 30)
    calls = [dict(lr=0.2), dict(lr=2, net=Net(3, 4)), dict(lr=(1, 2), split=None, day=day, at=pathlib.Path("a"))]
    calls += [dict(lr="x", nan=float("inf"), d={1: 2}, marked={"taskapi.pickle": 1}), dict(lr=10**400)]
    print(same(train.submit(0.5, Net(9)).result(), train(0.5, Net(9))))
    print([same(one, train(**call)) for one, call in zip(train.map(calls, name="all", max_running=3).results(), calls)])
    swept = train.sweep(lr=[0.1, 0.2], net=(Net(1), None), split=3)
    print([same(one, train(lr, net, split=3)) for one, (lr, net) in
           zip(swept.results(), [(lr, net) for lr in (0.1, 0.2) for net in (Net(1), None)])])
    here = await both({"lr": 0.5})
    print(here[1][1:], same(here[0], train(lr=0.5)))
    for job in [both.submit({"lr": 0.5}), both.submit(config={"lr": 0.5}), both.submit(lr=0.5)]:
        print(same(job.result()[0], here[0]), job.result()[1][1:], job.config)
    """
    assert said(notebook, code) == [
        "True",
        "[True, True, True, True, True]",
        "[True, True, True, True]",
        "['Task', None] True",
        *["True ['function', None] {'lr': 0.5}"] * 3,
    ]
    about = "print(train.api.name, both, train.__doc__, __import__('inspect').signature(both), both.__name__)"
    assert said(notebook, about) == ["train <task both(config)> Train it. (config) both"]


def test_it_is_deployed_once_and_again_when_it_has_changed(notebook: Kernel, tmp_path: Path) -> None:
    cell = """
    import os, pathlib, time, taskapi_jupyter
    @taskapi_jupyter.task(cpu=0.01, name="versioned")
    def wait(path):
        while not os.path.exists(path): time.sleep(0.01)
        return {}, helper()
    """
    said(notebook, "def helper(): return 'a'\ndeploys = []")
    said(notebook, cell.format(1))
    code = """
    from taskapi_jupyter.client.taskapi import TaskAPI
    def counted(self, *args, deploy=TaskAPI.deploy, **options):
        deploys.append(1)
        return deploy(self, *args, **options)
    TaskAPI.deploy = counted
    """
    said(notebook, code)
    first = f"go = {str(tmp_path / 'go')!r}\njobs = [wait.submit(go) for _ in range(2)]\nprint(len(deploys))"
    assert said(notebook, first) == ["1"]
    said(notebook, cell.format(2))
    assert said(notebook, "jobs.append(wait.submit(go)); print(len(deploys))") == ["2"]
    said(notebook, "def helper(): return 'b'")
    assert said(notebook, "jobs += [wait.submit(go), *wait.map([{'path': go}])]; print(len(deploys))") == ["3"]
    said(notebook, "pathlib.Path(go).touch()")
    assert said(notebook, "print([job.result() for job in jobs])") == [
        "[(1, 'a'), (1, 'a'), (2, 'a'), (2, 'b'), (2, 'b')]"
    ]
    deleted = "taskapi_jupyter.connect().delete('versioned'); print(wait.submit(go).result(), len(deploys))"
    assert said(notebook, deleted) == ["(2, 'b') 4"]
    assert said(notebook, "print(wait.deploy().name, wait.api.name, len(deploys))") == ["versioned versioned 5"]


# In this process

LIBRARY = """
import os, taskapi_jupyter

@taskapi_jupyter.task(cpu=0.01)
def where(n, fails=False):
    if fails:
        raise ValueError(n)
    return n, os.getpid(), type(inner).__name__, inner([n])

@taskapi_jupyter.task
def inner(config):
    return len(config)
"""


@pytest.fixture
def library(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a module that jobs can import, with decorated functions; its folder is the current one."""
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "decorated_library.py").write_text(LIBRARY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("decorated_library", None)
    yield __import__("decorated_library")
    del sys.modules["decorated_library"]
    environments.CONNECTIONS.close()


def test_a_function_of_a_module(library: Any, tmp_path: Path) -> None:
    """In the interpreter of this package, and in one that has not installed it."""
    assert library.where.submit((1,)).result()[::2] == ((1,), "Task")
    failing = library.where.submit(5, fails=True)
    with pytest.raises(JobFailed, match="ValueError: 5"):
        failing.result(PATIENCE)
    assert "taskapi_jupyter" not in failing.logs()
    assert f'File "{tmp_path / "decorated_library.py"}", line 7, in where' in failing.logs()
    other = tmp_path / "other"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", other], check=True, timeout=PATIENCE)
    api = environments.CONNECTIONS.get()
    api.deploy(library.where, name="elsewhere", python=str(other / "bin" / "python"), cwd=str(tmp_path))
    config = encoded({"n": (1, 2)}, "where")
    assert api.submit("elsewhere", config).result(PATIENCE)[::2] == ((1, 2), "function")
    # By its name in pickles, and whole in those of cloudpickle's users where it has none elsewhere.
    assert pickle.loads(pickle.dumps(library.where)) is cloudpickle.loads(cloudpickle.dumps(library.where))
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        assert pool.map(library.inner, [[1, 2]]) == [2]


def test_what_it_can_not_take_is_refused_before_a_deploy(library: Any, service: Service) -> None:
    @taskapi_jupyter.task
    def train(lr, epochs=3, /, *rest, seed=0):  # type: ignore[no-untyped-def]
        return lr

    @taskapi_jupyter.task
    def whole(config):  # type: ignore[no-untyped-def]
        return config

    for do, kind, words in (
        (train.submit, BadRequest, "train: lr is missing: it takes lr (required), epochs, seed"),
        (lambda: train.submit(0.1, sead=1), BadRequest, "train: got an unexpected keyword argument 'sead'"),
        (lambda: train.submit(0.1, 2, 3), BadRequest, "train takes *rest, which have no names in a job's config"),
        (lambda: train.map([{"lr": 1}, {"l": 1}]), BadRequest, "config 1: train: there is no parameter 'l' and lr is"),
        (lambda: train.map([{"lr": 1}, 5]), BadRequest, "config 1: 5 is not a mapping of arguments"),
        (lambda: train.map("lr"), BadRequest, "configs must be a list of mappings, one for each job, not a str"),
        (lambda: train.map([]), BadRequest, "no configs"),
        (lambda: train.sweep(lr=0.1), BadRequest, "nothing to sweep: give at least one list"),
        (lambda: train.sweep(lr=[]), BadRequest, "the list of lr is empty"),
        (lambda: train.sweep(l=[1]), BadRequest, "there is no parameter 'l'"),
        (lambda: train.submit(Lock()), BadRequest, "train: the argument lr, a lock, can't be pickled: TypeError: "),
        (lambda: train.submit(1, seed=bytes(2 << 20)), TooLarge, "most of it seed, and a job may have 1 MiB of them"),
        (lambda: whole.submit(1), BadRequest, "whole takes config, a mapping of names to values"),
        (lambda: taskapi_jupyter.task(train), BadRequest, "task is a decorator of functions, not of a Task"),
        (lambda: taskapi_jupyter.task(int), BadRequest, "task is a decorator of functions, not of a type"),
        (lambda: taskapi_jupyter.task(retries=101), BadRequest, "retries must be a whole number from 0 to 100"),
        (lambda: taskapi_jupyter.task(lambda: (yield)), BadRequest, "has a yield"),
    ):
        with pytest.raises(kind) as raised:  # type: ignore[call-overload]
            do()
        assert words in str(raised.value)
    assert service.get() == []
    assert service.groups() == []
    with pytest.raises(BadRequest, match="lots"):
        taskapi_jupyter.task(cpu="lots", name="x")(lambda n: n).submit(1)
    assert service.get() == []


def test_options_and_ways_to_call(library: Any, service: Service, tmp_path: Path) -> None:
    tries = tmp_path / "tries"

    @taskapi_jupyter.task(cpu="10m", mem="1Gi", gpu=0, timeout=600, name="tries", retries=2)
    def second(path, a=1, /, b=2):  # type: ignore[no-untyped-def]
        with open(path, "a") as file:
            file.write("x")
        assert __import__("os").path.getsize(path) > 1
        return a, b

    job = second.submit(str(tries), 5)
    assert (job.result(PATIENCE), tries.read_text()) == ((5, 2), "xx")
    spec = service.get("tries").spec
    assert (spec["compute"]["cpu"], spec["compute"]["mem"], spec["timeout"]) == ("10m", "1Gi", 600)
    assert second.map([{"path": str(tries), "b": 7}], retries=None).results() == [(1, 7)]
    assert asyncio.iscoroutinefunction(second) is False

    class Model:
        @taskapi_jupyter.task
        def fit(self, x):  # type: ignore[no-untyped-def]
            return self, x

    model = Model()
    assert model.fit(1) == (model, 1)
    assert Model.fit(model, 2) == (model, 2)


def test_decoding_takes_what_encoding_gives() -> None:
    values = {"a": (1,), "b": float("nan"), "c": {PICKLED: 1}, "d": "\ud800", "e": 1, "f": [1, {"x": None}]}
    config = encoded(values, "it")
    assert [name for name, one in config.items() if isinstance(one, dict) and PICKLED in one] == ["a", "b", "c", "d"]

    def task(a: Any, /, **more: Any) -> Any:
        return a, more

    assert repr(decoding(task, False)(**config)) == repr(((1,), {**values, "a": None} | {})).replace("'a': None, ", "")
    number = pytest.importorskip("numpy").float32(0.5)
    assert encoded({"n": number}, "it") == {"n": 0.5}
