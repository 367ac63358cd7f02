"""The standard library's own tests of executors, run against ours: those of all executors, not of pools of workers."""

from __future__ import annotations

import unittest
import warnings
import weakref
from collections.abc import Iterator
from importlib import import_module
from typing import Any

import pytest

from support import until
from taskapi_jupyter import Executor
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.service.service import Service

WHERE = {"ExecutorTest": "executor", "WaitTests": "test_wait", "AsCompletedTests": "test_as_completed"}


def found() -> dict[str, Any]:
    """Return the classes with the tests; none where this interpreter comes without them, as Debian's does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            package = import_module("test.test_concurrent_futures")
            return {
                name: getattr(
                    package if hasattr(package, name) else import_module(f"{package.__name__}.{module}"), name
                )
                for name, module in WHERE.items()
            }
        except ImportError:
            return {}


CLASSES = found()
WITHOUT = "this interpreter comes without the tests of its standard library (Debian has them in libpython3-testsuite)"


class Adapted:
    """Makes the executor of a test; small calls, so that as many as a test submits run at a time on any machine."""

    worker_count = 5
    executor_type = Executor
    test_max_workers_negative = None  # there are no workers

    @pytest.fixture(autouse=True)
    def of_jobs(self, request: pytest.FixtureRequest) -> Iterator[None]:
        tasks: Any
        if self.served:  # type: ignore[attr-defined]
            server = request.getfixturevalue("live_server")
            tasks = Client(server.taskapi, server.token)
        else:
            request.getfixturevalue("shared_home")
            tasks = Service()
        self.executor = Executor(tasks, cpu="50m")
        yield
        self.executor.shutdown(wait=True)
        tasks.close()


class AdaptedExecutor(Adapted):
    """One of its tests is ours."""

    def test_free_reference(self) -> None:
        """The thread that hands a result over may hold it for a moment longer; the standard test looks once."""
        for result in self.executor.map(set, ["ab"] * 10):
            kept = weakref.ref(result)
            del result
            until(lambda kept=kept: kept() is None, "a result to be let go")


if not CLASSES:

    @pytest.mark.skip(reason=WITHOUT)
    def test_standard() -> None: ...


BASES = {"ExecutorTest": AdaptedExecutor}
for name, tests in CLASSES.items():
    globals()[f"{name}OfJobs"] = type(
        f"{name}OfJobs", (BASES.get(name, Adapted), tests, unittest.TestCase), {"served": False}
    )
if CLASSES:  # the others hardly differ: the futures are the same
    executor_tests = {"served": True, "test_map_timeout": None}
    ExecutorTestOfJobsServed = type(
        "ExecutorTestOfJobsServed", (AdaptedExecutor, CLASSES["ExecutorTest"], unittest.TestCase), executor_tests
    )
