"""``Executor``: calls as jobs, with a server and without; what stops, fails, is refused, or outlives its kernel."""

from __future__ import annotations

import enum
import functools
import math
import os
import pickle
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, as_completed
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import cloudpickle
import pytest

import taskapi_jupyter
from support import until
from support.homes import clean
from support.kernels import Kernel
from support.servers import LiveServer, start_server
from taskapi_jupyter import Executor
from taskapi_jupyter.client.executor.calls import MAX_CALL
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.client.waiting import thread
from taskapi_jupyter.core.contract import Environment
from taskapi_jupyter.core.errors import (
    BadRequest,
    Conflict,
    GroupNotFound,
    JobFailed,
    JobIsRunning,
    NotFound,
    NotKept,
    TooLarge,
    Unreachable,
)
from taskapi_jupyter.cortex.client import CortexClient
from taskapi_jupyter.service.service import Service

SMALL = "50m"  # cores, of which all calls of a test fit at once


@pytest.fixture(autouse=True, scope="module")
def by_value() -> Iterator[None]:
    """Have functions of this module travel: a job takes seconds to import all of this."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


class Color(enum.IntEnum):
    RED = 1


class Point(NamedTuple):
    x: int
    y: int


class Odd(Exception):
    """One that takes other arguments than it hands on."""

    def __init__(self, number: int, *, why: str) -> None:
        super().__init__(f"{number} is odd: {why}")
        self.number, self.why = number, why

    def __reduce__(self) -> Any:
        return functools.partial(Odd, why=self.why), (self.number,)


def same(*args: Any, **kwargs: Any) -> Any:
    return args, kwargs


def fail(error: BaseException) -> None:
    raise error


def raise_large() -> None:
    raise ValueError("x" * (2 << 20))


def wait_for(path: str) -> str:
    Path(f"{path}.begun").touch()
    while not os.path.exists(path):
        time.sleep(0.01)
    return path


@pytest.fixture(params=["without a server", "with a server"])
def tasks(request: pytest.FixtureRequest) -> Iterator[TaskAPI]:
    """Return the environment of a home, in this process, or through a server elsewhere: no home is visible then."""
    if request.param == "without a server":
        request.getfixturevalue("shared_home")
        made: TaskAPI = Service()
    else:
        server: LiveServer = request.getfixturevalue("live_server")
        made = Client(server.taskapi, server.token)
    yield made
    made.close()


@pytest.fixture
def name(name: str) -> str:
    return name.replace("api", "ex")


def test_a_call_gives_what_it_would_give_here(tasks: TaskAPI, name: str) -> None:
    deep: Any = 1
    for _ in range(62):
        deep = [deep]
    calls: list[Any] = [
        ((1, 2.5, "ü", None, True, [1, {"a": []}]), {"self": 2, "fn": 3}),
        (((1, 2), {3: 4}, float("nan"), b"bytes", {1, 2}), {"point": Point(1, 2), "color": Color.RED}),
        ((deep, "\ud800", 10**30, -0.0, math.inf), {}),
        ((lambda x: x + 1,), {}),
    ]
    with Executor(tasks, cpu=SMALL, name=name) as executor:
        futures = [executor.submit(same, *args, **kwargs) for args, kwargs in calls]
        powers = executor.map(pow, range(5), [2] * 5, chunksize=2)
        exact, shared, odd, function = (future.result(60) for future in futures)
        assert exact == calls[0]
        assert exact[0][5] == [1, {"a": []}]
        assert repr(shared) == repr(calls[1])
        assert type(shared[1]["point"]) is Point
        assert type(shared[1]["color"]) is Color
        assert odd[0][0] == deep
        assert repr(odd[0][1:]) == repr(calls[2][0][1:])
        assert function[0][0](1) == 2
        assert list(powers) == [0, 1, 4, 9, 16]
    configs = [future.job.config or {} for future in futures]
    assert configs[0] == {"args": list(calls[0][0]), "kwargs": calls[0][1]}
    assert [list(config) for config in configs[1:]] == [["call"]] * 3
    assert {future.job.api_name for future in futures} == {f"{name}-same"}
    assert {future.job.record.group for future in futures} == {tasks.group(name).id}


def test_an_exception_comes_back_as_itself(tasks: TaskAPI, name: str) -> None:
    def hold() -> None:
        raise ValueError("can't be pickled", threading.Lock())

    with Executor(tasks, cpu=SMALL, name=name) as executor:
        odd = executor.submit(fail, Odd(3, why="it is"))
        plain = executor.submit(divmod, 1, 0)
        held, gone = executor.submit(hold), executor.submit(os._exit, 3)
        big = executor.submit(raise_large)
    error = odd.exception()
    assert type(error) is Odd
    assert (error.number, error.why) == (3, "it is")
    assert "in fail\n    raise error\n" in str(error.__cause__)
    assert str(error.__cause__).rstrip().endswith('Odd: 3 is odd: it is\n"""')
    assert "taskapi" not in str(error.__cause__).lower().replace(str(Path(__file__)).lower(), "")
    with pytest.raises(ZeroDivisionError):
        plain.result()
    with pytest.raises(JobFailed, match="can't be pickled") as failed:
        held.result()
    assert failed.value.__cause__ is None
    with pytest.raises(JobFailed, match="exit code 3"):
        gone.result()
    with pytest.raises(JobFailed, match=r"ValueError: xxx"):
        big.result()
    assert big.job.status == "worker_error"
    with pytest.raises(JobFailed) as failed:
        odd.job.result()
    assert type(failed.value.__cause__) is Odd
    assert "raise error" in str(failed.value.__cause__.__cause__)
    with tasks.open_exception(odd.job) as file:
        assert type(pickle.loads(file.read())) is Odd
    for other in (held.job, gone.job, big.job):
        with pytest.raises(NotFound):
            tasks.open_exception(other)


def test_a_function_is_deployed_once_by_its_content_and_goes_with_its_last_job(tasks: TaskAPI, name: str) -> None:
    def answer(number: int) -> int:
        return number + 1

    first = answer

    def answer(number: int) -> int:  # type: ignore[no-redef]
        return number + 2

    with Executor(tasks, cpu=SMALL, name=name) as executor:
        futures = [executor.submit(one, 1) for one in (first, answer, first, lambda x: x)]
        assert [future.result(60) for future in futures] == [2, 3, 2, 1]
        versions = [future.job.record.api_id for future in futures]
        assert versions[0] == versions[2] != versions[1]
        assert {one.name for one in tasks.get() if one.name.startswith(name)} == {f"{name}-answer", f"{name}-lambda"}
        futures[3].job.forget()
        assert {one.name for one in tasks.get() if one.name.startswith(name)} == {f"{name}-answer"}
        assert executor.submit(lambda x: x, 5).result(60) == 5  # deployed again
        group = tasks.group(name)
        assert group.counts == {"succeeded": 4}
        with pytest.raises(Conflict, match="several APIs"):
            group.rerun(failed=False)
        group.forget()
        assert not [one for one in tasks.get() if one.name.startswith(name)]
        assert executor.submit(first, 1).result(60) == 2  # in a new group
    tasks.group(name).forget()
    tasks.deploy(same, name=f"{name}-same", cpu=SMALL)
    with Executor(tasks, name=name) as executor, pytest.raises((Conflict, BadRequest), match="give that another name"):
        executor.submit(same)
    tasks.delete(f"{name}-same")


def test_pending_calls_are_cancelled_and_those_that_run_are_not(tasks: TaskAPI, name: str, tmp_path: Path) -> None:
    go = [str(tmp_path / f"go{number}") for number in range(6)]
    executor = Executor(tasks, cpu=SMALL, name=name)
    executor.max_running = 1
    futures = [executor.submit(wait_for, path) for path in go]
    until(lambda: os.path.exists(f"{go[0]}.begun"), "the first call to run")
    assert not futures[0].cancel()
    assert futures[0].running()
    assert futures[1].cancel()
    assert futures[1].cancelled()
    assert futures[1].cancel()
    assert futures[1].job.refresh().status == "stopped"
    assert next(as_completed(futures, 60)) is futures[1]
    with pytest.raises(JobIsRunning, match="is running"):
        tasks.cancel(futures[0].job)
    futures[2].job.stop()
    with pytest.raises(CancelledError):
        futures[2].result(60)
    assert futures[2].cancelled()
    futures[0].job.stop()
    with pytest.raises(CancelledError):
        futures[0].result(60)
    assert not futures[0].cancelled()
    until(lambda: os.path.exists(f"{go[3]}.begun"), "the next call to run")
    futures[5].job.stop()
    futures[5].job.forget()
    with pytest.raises(CancelledError):
        futures[5].result(60)
    executor.shutdown(wait=False, cancel_futures=True)
    assert futures[4].cancelled()
    assert not futures[3].done()
    Path(go[3]).touch()
    assert futures[3].result(60) == go[3]
    executor.shutdown()
    assert not os.path.exists(f"{go[4]}.begun")
    with pytest.raises(RuntimeError, match="cannot schedule new futures after shutdown"):
        executor.submit(same)


def test_leaving_by_an_exception_leaves_the_jobs(
    tasks: TaskAPI, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    go = tmp_path / "go"
    executor = Executor(tasks, cpu=SMALL, name=name)
    future = executor.submit(wait_for, str(go))
    with pytest.raises(KeyError), executor:
        raise KeyError
    assert f"1 job goes on; Executor.attach('{name}')" in capsys.readouterr().err
    assert not future.done()
    with pytest.raises(Conflict, match=rf"in use by group .* or use Executor.attach\('{name}'\)"):
        Executor(tasks, cpu=SMALL, name=name).submit(same)
    (attached,) = Executor.attach(name, tasks)
    assert attached.job == future.job
    go.touch()
    assert attached.result(60) == future.result(60) == str(go)
    with pytest.raises(GroupNotFound):
        Executor.attach("never-was", tasks)


def test_attempts_are_followed(tasks: TaskAPI, name: str, tmp_path: Path) -> None:
    def fails_twice(folder: str) -> int:
        number = len(os.listdir(folder))
        Path(folder, str(number)).touch()
        if number < 2:
            raise OSError(number)
        return number

    (tmp_path / "tries").mkdir()
    with Executor(tasks, cpu=SMALL, name=name, retries=2, timeout=60) as executor:
        future = executor.submit(fails_twice, str(tmp_path / "tries"))
        first = future.job.id
        assert future.result(60) == 2
    assert future.job.record.attempt == 3
    assert future.job.record.timeout == 60
    assert first != future.job.id


def test_what_cannot_go_along_is_named_and_leaves_nothing(tasks: TaskAPI, name: str) -> None:
    executor = Executor(tasks, cpu=SMALL, name=name)

    def train(data: Any, lock: Any = None) -> None: ...

    def locked() -> None:
        print(threading.Lock, lock)

    lock = threading.Lock()
    for call, error, said in [
        (lambda: executor.submit(train, 1, lock=lock), BadRequest, r"argument lock of train can't be pickled: TypeErr"),
        (lambda: executor.submit(train, lock), BadRequest, r"argument data of train can't be pickled"),
        (lambda: executor.submit(same, 1, lock), BadRequest, r"argument 2 of same can't be pickled"),
        (
            lambda: executor.submit(train, "x" * MAX_CALL),
            TooLarge,
            r"argument data of train has 1.0 MiB .* at most 1 MiB",
        ),
        (lambda: executor.submit(train, {b"x" * (MAX_CALL + 9)}), TooLarge, r"argument data of train has 1.0 MiB"),
        (
            lambda: executor.submit(same, b"x" * 9**6, b"x" * (MAX_CALL - 9)),
            TooLarge,
            r"have more than 1 MiB together, most of it argument 2",
        ),
        (
            lambda: executor.submit(locked),
            BadRequest,
            r"locked can't be pickled, it or something that it uses: TypeErr",
        ),
        (lambda: executor.submit("locked"), TypeError, "calls functions"),  # type: ignore[arg-type]
        (lambda: executor.map(same, [1], chunksize=0), ValueError, "chunksize must be >= 1"),
        (lambda: Executor(tasks, name="a.b"), BadRequest, "invalid name of an executor 'a.b'"),
        (lambda: Executor(tasks, name="a" * 41), BadRequest, "at most 40"),
        (lambda: Executor(tasks, name="abcdef"), BadRequest, "taken for an id"),
        (lambda: Executor(tasks, retries=101), BadRequest, "retries must be a whole number from 0 to 100"),
        (lambda: Executor(tasks, cpu=100_000).submit(same), BadRequest, "100000"),
    ]:
        with pytest.raises(error, match=said):
            call()  # type: ignore[no-untyped-call]
    with pytest.raises(GroupNotFound):
        tasks.group(name)
    assert not [one for one in tasks.get() if one.name.startswith(name)]


def test_a_cortex_cluster_is_refused() -> None:
    with pytest.raises(NotKept, match="keeps no results"):
        Executor(CortexClient("http://127.0.0.1:9", environment=Environment("prod", "cortex")))


def test_futures_of_a_server_that_is_gone_say_so_and_attach_finds_the_jobs(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = start_server(tmp_path)
    with closing(Client(server.taskapi, server.token)) as client:
        client.patience = 0.5
        go = tmp_path / "go"
        future = Executor(client, cpu=SMALL, name=name).submit(wait_for, str(go))
        until(lambda: os.path.exists(f"{go}.begun"), "the call to run")
        server.process.kill()
        server.process.wait()
        with pytest.raises(
            Unreachable, match=rf"job {future.job.id} goes on, and Executor.attach\('{name}'\) finds it"
        ):
            future.result(60)
    monkeypatch.setenv("TASKAPI_HOME", str(server.home))
    service = Service()
    (attached,) = Executor.attach(name, service).futures
    go.touch()
    assert attached.result(60) == str(go)
    service.close()
    clean(server.home)


def test_one_thread_waits_for_all_and_ends(shared_home: Path) -> None:
    service = Service()
    executors = [Executor(service, cpu=SMALL) for _ in range(3)]
    futures = [executor.submit(os.getpid) for executor in executors]
    assert [one.name for one in threading.enumerate()].count("taskapi-waits") == 1
    assert len({future.result(60) for future in futures}) == 3
    for executor in executors:
        executor.shutdown()
    until(lambda: thread._thread is None, "the thread to end")
    service.close()


def test_what_is_kept_of_an_exception_is_for_its_owner_alone(shared_home: Path, name: str) -> None:
    service = Service()
    with Executor(service, cpu=SMALL, name=name) as executor:
        future = executor.submit(fail, OSError(2, "no"))
    file = shared_home / "jobs" / future.job.id / "exception.pkl"
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_bytes(b"cos\nsystem\n(S'touch /tmp/no'\ntR.")
    assert service.exception(future.job) is None  # no task of ours wrote that
    file.unlink()
    file.symlink_to("/etc/passwd")
    with pytest.raises(NotFound):
        service.open_exception(future.job)
    service.close()


SUBMIT = """
import taskapi_jupyter, time
from pathlib import Path
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and other.x == self.x
scale = 10
def grow(n, point):
    while not Path({go!r}).exists(): time.sleep(0.01)
    assert isinstance(point, Point)
    return Point(point.x * scale) if n else 1 / n
executor = taskapi_jupyter.Executor(cpu="50m", name="kept")
futures = [executor.submit(grow, n, Point(n)) for n in range(3)]
print(all(not future.done() for future in futures))
"""

ATTACH = """
import taskapi_jupyter
class Point:
    def __init__(self, x): self.x = x
    def __eq__(self, other): return type(other) is Point and other.x == self.x
futures = taskapi_jupyter.Executor.attach("kept").futures
print(repr(futures[0].exception(60)), [future.result(60) == Point(10 * n) for n, future in enumerate(futures) if n])
"""


def test_the_futures_of_a_kernel_that_was_restarted(start: Callable[[str], Kernel], tmp_path: Path) -> None:
    go = tmp_path / "go"
    first = start("first.ipynb")
    assert first.run(SUBMIT.format(go=str(go))) == "True\n"
    first.send("import os; os.kill(os.getpid(), 9)")
    second = start("second.ipynb")
    assert second.run("taskapi_jupyter = __import__('taskapi_jupyter'); taskapi_jupyter.Executor.attach('kept')") == (
        "<Executor kept: 3 calls in progress>"
    )
    go.touch()
    assert second.run(ATTACH) == "ZeroDivisionError('division by zero') [True, True]\n"


def test_the_package_names_it_without_importing_it() -> None:
    assert taskapi_jupyter.Executor is Executor
