"""The backend ``taskapi`` of joblib: scores as without it, errors, and no process left by an interrupt."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from support import until
from support.homes import processes
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import TooLarge
from taskapi_jupyter.service.service import Service

joblib = pytest.importorskip("joblib", reason="joblib is not installed")


@pytest.fixture
def backend() -> str:
    """Return the backend's name, registered."""
    import taskapi_jupyter.joblib  # noqa: F401

    return "taskapi"


@pytest.fixture
def service(shared_home: Path) -> Iterator[Service]:
    with closing(Service()) as service:
        yield service


@pytest.fixture(autouse=True, scope="module")
def by_value() -> Iterator[None]:
    """Have functions of this module travel: a job takes seconds to import all of this."""
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    yield
    cloudpickle.unregister_pickle_by_value(sys.modules[__name__])


def square(number: int) -> tuple[int, int]:
    return number**2, os.getpid()


def nested(number: int) -> tuple[str, list[tuple[int, int]]]:
    parallel = joblib.Parallel(n_jobs=2)
    return type(parallel._backend).__name__, parallel(joblib.delayed(square)(one) for one in range(number))


def mean(array: Any) -> tuple[float, str, bool]:
    return float(array.mean()), type(array).__name__, array.flags.writeable


def test_a_search_finds_the_same_scores(service: Service, backend: str) -> None:
    pytest.importorskip("sklearn", reason="scikit-learn is not installed")
    from sklearn.datasets import load_iris
    from sklearn.model_selection import GridSearchCV
    from sklearn.svm import SVC

    X, y = load_iris(return_X_y=True)
    grid = {"C": [0.1, 10]}
    alone = GridSearchCV(SVC(), grid, cv=2).fit(X, y)
    with joblib.parallel_config(backend, n_jobs=4, cpu="50m"):
        search = GridSearchCV(SVC(), grid, cv=2).fit(X, y)
    for key in ("mean_test_score", "std_test_score", "rank_test_score"):
        assert list(search.cv_results_[key]) == list(alone.cv_results_[key])
    assert search.best_params_ == alone.best_params_
    assert (search.predict(X) == alone.predict(X)).all()
    (group,) = [one for one in service.groups() if (one.name or "").startswith("joblib-")][:1]
    assert group.refresh().counts == {"succeeded": len(group)}
    assert 1 <= len(group) <= 4


def test_arrays_errors_and_nesting(service: Service, backend: str, tmp_path: Path) -> None:
    np = pytest.importorskip("numpy")
    array = np.ones(300_000)
    with joblib.parallel_config(backend, n_jobs=2, tasks=service, cpu="50m"):
        parallel = joblib.Parallel(temp_folder=str(tmp_path))
        assert parallel(joblib.delayed(mean)(array) for _ in range(2)) == [(1.0, "memmap", False)] * 2
        assert os.listdir(tmp_path) == []
        (first, second) = joblib.Parallel()(joblib.delayed(nested)(number) for number in (2, 1))
        assert (first[0], second[0]) == ("ThreadingBackend", "ThreadingBackend")
        assert [number for number, _ in first[1]] == [0, 1]
        assert len({pid for _, pid in first[1]}) == 1
        with pytest.raises(ZeroDivisionError) as error:
            joblib.Parallel()(joblib.delayed(divmod)(1, number) for number in range(2))
        assert "ZeroDivisionError" in str(error.value.__cause__)
        assert joblib.Parallel(n_jobs=1)(joblib.delayed(square)(2) for _ in range(1)) == [(4, os.getpid())]
    assert not service.jobs(status=["pending", "running"])


def test_data_that_is_too_large_for_a_job_elsewhere(live_server: Any, backend: str) -> None:
    with (
        closing(Client(live_server.taskapi, live_server.token)) as client,
        joblib.parallel_config(backend, n_jobs=2, tasks=client),
        pytest.raises(TooLarge, match="a batch of calls has more than 1 MiB when pickled"),
    ):
        joblib.Parallel()(joblib.delayed(len)(b"x" * (2 << 20)) for _ in range(2))


SLEEPS = """
import sys, time, joblib, taskapi_jupyter.joblib
def sleep(path):
    open(path, "w").close()
    time.sleep(600)
with joblib.parallel_config("taskapi", n_jobs=2, cpu="50m"):
    joblib.Parallel()(joblib.delayed(sleep)(f"{sys.argv[1]}/{n}") for n in range(9))
"""


def test_an_interrupt_leaves_no_process(home: Path, tmp_path: Path) -> None:
    (tmp_path / "begun").mkdir()
    command = [sys.executable, "-c", SLEEPS, str(tmp_path / "begun")]
    environ = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(command, cwd=tmp_path, env=environ, stderr=subprocess.PIPE) as process:
        until(lambda: len(os.listdir(tmp_path / "begun")) == 2, "two calls to run")
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert b"KeyboardInterrupt" in said
    assert b"Traceback" in said
    with closing(Service(home)) as service:
        assert {job.status for job in service.jobs()} == {"stopped"}
    assert len(os.listdir(tmp_path / "begun")) == 2
    assert not [path for path in os.listdir(tmp_path) if path.startswith("taskapi-joblib")]
    until(lambda: not processes(home), f"all processes to be gone: {processes(home)}")
