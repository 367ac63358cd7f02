"""metric() inside a job: what it writes, and what readers find of it however it was thinned."""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from taskapi_jupyter import job
from taskapi_jupyter.core.contract import MetricsResponse
from taskapi_jupyter.service import outputs


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a job's folder, with this process in the job; what waits of earlier tests is gone."""
    monkeypatch.setattr(job, "_metrics", job._Metrics())
    monkeypatch.setenv("TASKAPI_JOB_SPEC", str(tmp_path / "job.json"))
    return tmp_path


def python(code: str, folder: Path) -> str:
    """Run code in a job's process and return what it printed, errors too."""
    command = [sys.executable, "-c", dedent(code)]
    environ = {"TASKAPI_JOB_SPEC": str(folder / "job.json")}
    ended = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environ, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    return ended.stdout + ended.stderr


def read(folder: Path, *names: str, since: int = 0) -> MetricsResponse:
    with open(folder / "metrics.jsonl", "rb") as file:
        return outputs.points_of(file, since, names)


def values(folder: Path, name: str) -> list[tuple[float, float]]:
    """Return the steps and values of one metric."""
    return [(step, value) for step, _, value in read(folder, name).metrics[name]]


def last(folder: Path) -> Any:
    return json.loads((folder / "metrics.json").read_text())


class Numpyish:
    def __float__(self) -> float:
        return 2.0


def test_points_and_last_values_are_written(folder: Path) -> None:
    before = time.time()
    job.metric(loss=0.5, accuracy=1)
    job.metric(loss=0.25, step=10)
    job.metric(**{"val/lö ss": Numpyish()}, step=2.5)  # type: ignore[arg-type]
    job._metrics.flush()
    assert values(folder, "loss") == [(1, 0.5), (10, 0.25)]
    assert values(folder, "accuracy") == [(1, 1)]
    assert values(folder, "val/lö ss") == [(2.5, 2)]
    assert all(before - 1 <= when <= time.time() for _, when, _ in read(folder).metrics["loss"])
    assert last(folder) == {"loss": 0.25, "accuracy": 1, "val/lö ss": 2}
    assert {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()} == {
        "metrics.jsonl": 0o600,
        "metrics.json": 0o600,
    }


def test_arguments_are_checked_inside_a_job_and_outside(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({}, TypeError, "at least one value"),
        ({"step": 1}, TypeError, "at least one value"),
        ({"loss": "1"}, TypeError, "loss must be a number, not str"),
        ({"loss": True}, TypeError, "loss must be a number, not bool"),
        ({"loss": None}, TypeError, "loss must be a number, not NoneType"),
        ({"loss": float("nan")}, ValueError, "loss must be a finite number, not nan"),
        ({"loss": float("-inf")}, ValueError, "loss must be a finite number, not -inf"),
        ({"loss": 1, "step": "2"}, TypeError, "step must be a number, not str"),
        ({"loss": 1, "step": float("inf")}, ValueError, "step must be a finite number"),
        ({"l" * 65: 1}, ValueError, "1 to 64 printable characters: 'lll"),
        ({"": 1}, ValueError, "1 to 64 printable characters: ''"),
        ({"a\x1b[31m": 1}, ValueError, r"printable characters: 'a\\x1b"),
        ({"good": 1, "\ud800": 1}, ValueError, "printable characters"),
    ]
    for _ in range(2):
        for given, error, words in wrong:
            with pytest.raises(error, match=words):
                job.metric(**given)
        monkeypatch.delenv("TASKAPI_JOB_SPEC", raising=False)
    job.metric(**{"l" * 64: 1})
    job._metrics.flush()
    assert list(folder.iterdir()) == []


def test_a_job_shows_the_last_values_of_its_first_twenty_names(folder: Path) -> None:
    for number in range(30):
        job.metric(**{f"m{number}": number})
    job.metric(m3=33, m29=1)
    job._metrics.flush()
    assert last(folder) == {**{f"m{number}": number for number in range(20)}, "m3": 33}
    assert len(read(folder).metrics) == 30


def test_a_tight_loop_writes_seldom_and_its_last_point_always(folder: Path) -> None:
    out = python(
        """
        import os, time
        from taskapi_jupyter.job import metric
        writes, write = [], os.write
        os.write = lambda fd, data: (writes.append(1), write(fd, data))[1]
        began = time.monotonic()
        for number in range(20_000):
            metric(loss=number)
        print(len(writes), time.monotonic() - began)
        """,
        folder,
    )
    writes, seconds = out.split()
    assert 1 <= int(writes) <= 2 + 4 * float(seconds)
    assert values(folder, "loss") == [(number + 1, number) for number in range(20_000)]
    assert last(folder) == {"loss": 19_999}


def test_a_point_that_waits_is_written_without_another_call(folder: Path) -> None:
    python(
        """
        import json, os, time
        from taskapi_jupyter.job import metric
        metric(loss=1)
        metric(loss=2)
        deadline = time.monotonic() + 60
        while json.load(open("metrics.json"))["loss"] != 2:
            assert time.monotonic() < deadline
        os._exit(0)
        """,
        folder,
    )
    assert values(folder, "loss") == [(1, 1), (2, 2)]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_processes_and_threads_of_a_job_write_one_file(folder: Path, method: str) -> None:
    (folder / "main.py").write_text(
        dedent(f"""\
        import multiprocessing, threading
        from taskapi_jupyter.job import metric

        def work(name):
            for number in range(2000):
                metric(**{{name: number}}, step=number)

        if __name__ == "__main__":
            metric(parent=1)
            metric(parent=2)  # waits, so that a timer runs at the fork
            context = multiprocessing.get_context("{method}")
            others = [context.Process(target=work, args=(f"p{{n}}",)) for n in range(3)]
            others += [threading.Thread(target=work, args=(f"t{{n}}",)) for n in range(3)]
            for one in others:
                one.start()
            for one in others:
                one.join()
            assert not any(getattr(one, "exitcode", 0) for one in others)
        """)
    )
    command, environ = [sys.executable, "main.py"], {"TASKAPI_JOB_SPEC": str(folder / "job.json")}
    subprocess.run(command, cwd=folder, env=environ, check=True, timeout=120)
    assert values(folder, "parent") == [(1, 1), (2, 2)]
    for name in ("p0", "p1", "p2", "t0", "t1", "t2"):
        assert values(folder, name) == [(number, number) for number in range(2000)]
    assert last(folder) == {"parent": 2, **dict.fromkeys(("p0", "p1", "p2", "t0", "t1", "t2"), 1999)}


def test_a_signal_handler_may_record(folder: Path) -> None:
    python(
        """
        import itertools, signal
        from taskapi_jupyter import job
        seen, numbers = [], itertools.count(1)
        def handler(*_):  # which another signal may interrupt, too
            job.metric(handled=next(numbers))
            seen.append(1)
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.001, 0.0005)
        number = 0
        while len(seen) < 200:
            number += 1
            job.metric(loss=number)
            if number % 100 == 0:
                job._metrics.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)
        print(number, len(seen))
        """,
        folder,
    )
    handled = values(folder, "handled")
    assert sorted(value for _, value in handled) == [number + 1 for number in range(len(handled))]
    assert len(handled) >= 200


# Thinning


def fill(count: int, most: int = 40_000, few: int = 50) -> str:
    """Return code that records two metrics, one of them seldom, with another bound on the file."""
    return f"""
        from taskapi_jupyter import job
        job._MOST, job._FEW = {most}, {few}
        for number in range({count}):
            job.metric(loss=number, step=number)
            if number % 200 == 0:
                job.metric(val=number, step=number)
                job._metrics.flush()
        """


def test_a_long_series_is_thinned_evenly(folder: Path) -> None:
    out = python(fill(8000), folder)
    assert "taskapi: metrics fill 10 MB: one point in 2 is kept from now on\n" in out
    assert (folder / "metrics.jsonl").stat().st_size <= 40_000
    steps = [step for step, _ in values(folder, "loss")]
    assert steps[0] == 0
    gaps = {steps[at + 1] - steps[at] for at in range(len(steps) - 1)}
    assert 0 < max(gaps) <= 4 * min(gaps) <= 64  # they differ where one thinning ended and another began
    assert steps[-1] > 7900
    assert values(folder, "val") == [(number, number) for number in range(0, 8000, 200)]
    assert last(folder) == {"loss": 7999, "val": 7800}


def test_who_reads_on_finds_each_point_once_however_often_it_is_thinned(folder: Path) -> None:
    reader = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parents[2])!r})
        from taskapi_jupyter.service import outputs
        outputs._POINTS = 300
        {fill(6000).strip()}
            if number % 150 == 0:
                since = -1
                while globals().setdefault("after", 0) != since:
                    since = after
                    with open("metrics.jsonl", "rb") as file:
                        some = outputs.points_of(file, since, ["loss"])
                    globals().setdefault("found", []).extend(some.metrics.get("loss", []))
                    after = some.next
        print([step for step, *_ in found])
        """
    steps = json.loads(python(reader, folder).partition("]")[0] + "]")
    assert steps == sorted(set(steps))
    assert steps[0] == 0
    assert len(steps) > 1000  # it saw points that were thinned out later
    assert steps[-1] >= 5600


def test_more_names_than_points_stay_within_the_bound(folder: Path) -> None:
    python(
        """
        from taskapi_jupyter import job
        job._MOST = 20_000
        for number in range(3000):
            job.metric(**{f"m{number}": number})
            if number % 100 == 0:
                job._metrics.flush()
        """,
        folder,
    )
    assert 5000 < (folder / "metrics.jsonl").stat().st_size <= 20_000
    assert "m2999" in read(folder).metrics


def test_what_else_stands_in_the_file_is_passed_over(folder: Path) -> None:
    job.metric(loss=1)
    with open(folder / "metrics.jsonl", "ab") as file:
        file.write(
            b'junk\n[1]\n["x", "y", 2, 3]\n[[[[\n{"a": 1}\n\xff\xfe\n["inf", 1, 2, 1e999]\n["loss", 9, 2.5, 3]\n["cut'
        )
    assert values(folder, "loss")[1:] == [(9, 3)]
    assert set(read(folder).metrics) <= {"loss", "inf"}
    after = read(folder).next
    assert read(folder, since=after).next == after
    (folder / "metrics.jsonl").write_bytes(b'{"written": "x"}\n["loss", 1, 2, 3]\n')
    assert values(folder, "loss") == [(1, 3)]
    (folder / "metrics.jsonl").write_bytes(b'{"written": -5, "kept": 1000000}\n["loss", 1, 2, 3]\n')
    assert read(folder).metrics == {}


# What must not end a task


def test_a_folder_that_is_gone(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKAPI_JOB_SPEC", str(folder / "gone/job.json"))
    job.metric(loss=1)
    job._metrics.flush()


def test_a_disk_that_is_full_leaves_whole_lines(folder: Path) -> None:
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
        for number in range(100):
            job.metric(loss=number)
            job._metrics.flush()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    job.metric(loss=1000)
    job._metrics.flush()
    found = values(folder, "loss")
    assert found[:2] == [(1, 0), (2, 1)]
    assert found[-1] == (101, 1000)
    assert all(line.endswith("]") for line in (folder / "metrics.jsonl").read_text().splitlines())


def test_another_process_that_holds_the_file_delays_points_and_loses_none(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "_PATIENCE", 0.05)
    job.metric(loss=1)
    fd = job._lock(str(folder / "metrics.jsonl"))
    job.metric(loss=2)
    job._metrics.flush()
    assert values(folder, "loss") == [(1, 1)]
    job._unlock(fd)
    job._metrics.flush()
    assert values(folder, "loss") == [(1, 1), (2, 2)]
