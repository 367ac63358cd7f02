"""Jobs as people hold them, logs by offsets, waiting: on the real Service."""

from __future__ import annotations

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from support import ECHO, WAITING, at_once, request_for, until
from taskapi_jupyter.client import log_reader
from taskapi_jupyter.client.taskapi import Job, JobList, TaskAPI
from taskapi_jupyter.client.waiting import jobs as waiting_for
from taskapi_jupyter.core.contract import JobResponse, LogChunk
from taskapi_jupyter.core.errors import BadRequest, JobFailed, JobNotFound, TaskAPIError, Unreachable
from taskapi_jupyter.service.service import Service

FAILING = """
def task(config):
    print("before")
    raise ValueError("no <b>luck</b>")
"""

PROGRESS = """
import pathlib, time
from taskapi_jupyter.job import progress

def task(config):
    progress(1, 4, "first <i>")
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    progress(4, 4, "last")
"""


@pytest.fixture
def waiting(service: Service, tmp_path: Path) -> Iterator[tuple[Job, Path]]:
    """Return a job that runs until a file is there, and that file."""
    service.deploy_request(request_for("waiting", WAITING))
    go_on = tmp_path / "go-on"
    yield service.submit("waiting", {"path": str(go_on)}), go_on
    go_on.touch()


def running(job: Job) -> None:
    until(lambda: job.refresh().status == "running", "the job to run")


def test_a_job_from_submission_to_result(service: Service) -> None:
    service.deploy_request(request_for("echo", ECHO))
    before = datetime.now(timezone.utc)
    job = service.submit("echo", {"x": [1, 2]}, notebook="n.ipynb")
    assert (job.status, job.api_name, job.config, job.notebook) == ("pending", "echo", {"x": [1, 2]}, "n.ipynb")
    assert (job.start_time, job.end_time, job.reason, job.exit_code, job.progress) == (None,) * 5
    assert not job.ended
    assert job.wait() is job
    assert job.status == "succeeded"
    assert job.ended
    assert None not in (job.created_time, job.start_time, job.end_time)
    assert before <= job.created_time <= job.start_time <= job.end_time <= datetime.now(timezone.utc)
    assert job.result() == {"x": [1, 2]}
    assert job.logs() == "hello {'x': [1, 2]}\n"
    assert job.files() == []
    again = job.rerun()
    assert again != job
    assert again.result() == {"x": [1, 2]}


def test_a_task_without_a_result_returns_none(service: Service) -> None:
    service.deploy_request(request_for("none", "def task(config): pass"))
    assert service.submit("none").result() is None


def test_a_failed_job_raises_what_is_to_know(service: Service) -> None:
    service.deploy_request(request_for("failing", FAILING))
    job = service.submit("failing")
    assert job.wait().status == "worker_error"
    with pytest.raises(JobFailed) as caught:
        job.result()
    assert str(caught.value) == (
        f"job {job.id} of failing: worker error, ValueError: no <b>luck</b>; its log: %taskapi logs {job.id}"
    )
    assert (caught.value.job_id, caught.value.job_status) == (job.id, "worker_error")
    assert "<b>luck" not in job._repr_html_()
    assert "no &lt;b&gt;luck" in job._repr_html_()


def test_waiting_for_what_does_not_end(waiting: tuple[Job, Path]) -> None:
    job, go_on = waiting
    with pytest.raises(TimeoutError, match=f"job {job.id} of waiting is still .* after 0.05 s"):
        job.wait(0.05)
    with pytest.raises(TimeoutError):
        job.result(timeout=0)
    go_on.touch()
    assert job.wait(30).status == "succeeded"
    assert job.wait(0).status == "succeeded"


def test_stopping_and_forgetting(waiting: tuple[Job, Path]) -> None:
    job, _ = waiting
    running(job)
    with pytest.raises(TaskAPIError, match="in progress"):
        job.forget()
    assert job.stop() == f"stopped job {job.id}"
    assert job.status == "stopped"
    with pytest.raises(JobFailed, match=f"job {job.id} of waiting: stopped; its log"):
        job.check()
    assert job.forget() == f"deleted job {job.id}"
    with pytest.raises(JobNotFound):
        job.refresh()


def test_a_job_of_a_deleted_api_can_still_be_waited_for(waiting: tuple[Job, Path]) -> None:
    job, _ = waiting
    running(job)
    job.api.delete("waiting")
    assert job.wait(30).status == "stopped"


def test_jobs_are_equal_by_id_and_environment(home: Path, waiting: tuple[Job, Path]) -> None:
    job, _ = waiting
    same = job.api.get("waiting", job.id)
    elsewhere = Job(Service(home, environment="other"), job.record)
    assert same is not job
    assert same == job
    assert hash(same) == hash(job)
    assert elsewhere != job
    assert job != job.id
    assert len({job, same, elsewhere}) == 2


def test_reprs_reflect_what_is_known_and_html_looks_once(waiting: tuple[Job, Path]) -> None:
    job, go_on = waiting
    assert repr(job) == f"<Job {job.id} of waiting: pending>"
    running(job)
    go_on.touch()
    until(lambda: job.api.get("waiting", job.id).ended, "the job to end")
    assert repr(job) == f"<Job {job.id} of waiting: running>"
    assert "succeeded" in job._repr_html_()
    assert repr(job) == f"<Job {job.id} of waiting: succeeded>"


class Away(Service):
    """A Service that fails to answer a number of times."""

    failures = 0

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        if self.failures > 0:
            self.failures -= 1
            raise Unreachable("nobody there")
        return super().job_response(job_id, api)


def test_html_never_raises(home: Path) -> None:
    away = Away(home)
    away.deploy_request(request_for("echo", ECHO))
    job = away.submit("echo")
    assert "as last seen" not in job._repr_html_()
    away.failures = 1
    again = Job(away, replace(job.record, status="running"))
    html = again._repr_html_()
    assert "running" in html
    assert "as last seen" in html
    job.wait()
    assert "as last seen" not in again._repr_html_()


def test_waiting_forgives_a_server_that_is_away_for_a_moment(home: Path) -> None:
    away = Away(home)
    away.deploy_request(request_for("echo", ECHO))
    job = away.submit("echo")
    away.failures = 3
    assert job.wait().status == "succeeded"


def test_waiting_does_not_forgive_for_ever(home: Path) -> None:
    away = Away(home)
    away.patience = 0.02
    away.deploy_request(request_for("echo", ECHO))
    job = away.submit("echo")
    away.failures = 1_000_000
    with pytest.raises(Unreachable, match=rf"nobody there; job {job.id} of echo was pending when last seen"):
        job.wait()


class Interrupted(Service):
    """A Service during whose third look somebody presses the stop button."""

    looks = 0

    def job_response(self, job_id: str, api: str | None = None) -> JobResponse:
        self.looks += 1
        if self.looks == 3:
            os.kill(os.getpid(), signal.SIGINT)
        return super().job_response(job_id, api)


def test_interrupting_leaves_the_job_running(home: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    service = Interrupted(home)
    service.deploy_request(request_for("waiting", WAITING))
    job = service.submit("waiting", {"path": str(tmp_path / "go-on")})
    with pytest.raises(KeyboardInterrupt):
        job.wait()
    assert f"job {job.id} still runs; to stop it: %taskapi stop {job.id[-6:]}" in capsys.readouterr().err
    (tmp_path / "go-on").touch()
    assert job.wait().status == "succeeded"


def test_awaiting_leaves_the_loop_free(waiting: tuple[Job, Path]) -> None:
    job, go_on = waiting

    async def main() -> tuple[Job, Job]:
        async def release() -> Job:
            await asyncio.to_thread(running, job.api.get("waiting", job.id))
            go_on.touch()
            return job

        return tuple(await asyncio.gather(job, release()))  # type: ignore[return-value]

    assert asyncio.run(main()) == (job, job)
    assert job.status == "succeeded"


def test_awaiting_can_be_cancelled(waiting: tuple[Job, Path]) -> None:
    job, go_on = waiting

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(_awaited(job), 0.1)

    asyncio.run(main())
    go_on.touch()
    assert job.wait().status == "succeeded"


async def _awaited(job: Job) -> Job:
    return await job


def test_a_terminal_shows_one_line_that_is_rewritten(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service.deploy_request(request_for("progress", PROGRESS))
    job = service.submit("progress", {"path": str(tmp_path / "go-on")})
    until(lambda: job.refresh().progress is not None, "progress")
    assert (job.progress.done, job.progress.total, job.progress.message) == (1, 4, "first <i>")  # type: ignore[union-attr]
    assert "25 % · 1/4 · first &lt;i&gt;" in job._repr_html_()
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    with pytest.raises(TimeoutError):
        job.wait(0.01)
    (tmp_path / "go-on").touch()
    job.wait()
    _, first, *_, last = terminal.getvalue().split("\r\x1b[K")
    assert first.startswith(f"running  progress {job.id}  [#####               ]  25 % · 1/4 · first <i>")
    assert last.startswith(f"succeeded  progress {job.id}")
    assert last.endswith("\n")


class Terminal(io.StringIO):
    """A terminal that keeps what was written."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("threads", [1, 2])
def test_a_terminal_shows_jobs_that_are_waited_for_together_on_one_line(
    service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, threads: int
) -> None:
    service.deploy_request(request_for("progress", PROGRESS, compute={"cpu": 0.1}))
    jobs = [service.submit("progress", {"path": str(tmp_path / str(n))}) for n in range(2)]
    until(lambda: all(job.refresh().progress for job in jobs), "progress")
    monkeypatch.setattr("sys.stderr", terminal := Terminal())
    parts = [jobs] if threads == 1 else [jobs[:1], jobs[1:]]
    waits = [threading.Thread(target=waiting_for.wait, args=(part,)) for part in parts]
    for wait in waits:
        wait.start()
    for n, line in enumerate(
        [
            "0 of 2 jobs ended  [#####               ]  2 running",
            "1 of 2 jobs ended  [############        ]  1 running, 1 succeeded",
        ]
    ):
        until(lambda line=line: line in terminal.getvalue(), line)  # type: ignore[misc]
        (tmp_path / str(n)).touch()
    for wait in waits:
        wait.join(30)
    *lines, last = terminal.getvalue().split("\r\x1b[K")[1:]
    assert not any("\n" in line for line in lines)
    assert last.startswith("2 of 2 jobs ended  [####################]  2 succeeded")
    assert last.endswith("\n")


def test_waiting_for_many_that_do_not_end(service: Service, tmp_path: Path) -> None:
    service.deploy_request(request_for("waiting", WAITING))
    service.deploy_request(request_for("echo", ECHO))
    ended = service.submit("echo").wait()
    jobs = [service.submit("waiting", {"path": str(tmp_path / "go-on")}) for _ in range(2)]
    with pytest.raises(TimeoutError, match=r"2 of 3 jobs have not ended after 0\.05 s: ") as caught:
        waiting_for.wait([*jobs, ended, jobs[0]], 0.05)
    assert all(job.id in str(caught.value) for job in jobs)
    (tmp_path / "go-on").touch()
    waiting_for.wait(jobs, 30)
    assert [job.status for job in jobs] == ["succeeded"] * 2
    waiting_for.wait([])


SCRIPT = """
import asyncio, sys
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.service.service import Service

jobs = [Service().submit("waiting", {"path": "nowhere"}) for _ in range(2)]

async def main():
    await asyncio.gather(*jobs)

async def say():
    for _ in range(5):
        await asyncio.sleep(0)  # the others have begun
    print("waiting", flush=True)

async def both():
    await asyncio.gather(main(), say())

asyncio.run(both())
"""


def test_interrupting_a_program_that_awaits(service: Service) -> None:
    service.deploy_request(request_for("waiting", WAITING))
    program = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert program.stdout is not None
    assert program.stdout.readline() == "waiting\n"
    program.send_signal(signal.SIGINT)
    _, err = program.communicate(timeout=60)
    assert err.count("2 jobs still run: ") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert program.returncode == -signal.SIGINT


def test_a_task_that_is_cancelled_by_its_group_ends_as_one(waiting: tuple[Job, Path], capfd: Any) -> None:
    job, go_on = waiting

    async def fail() -> None:
        raise ValueError("mine")

    async def main() -> list[Any]:
        tasks = [asyncio.create_task(_awaited(job)), asyncio.create_task(fail())]
        with pytest.raises(ValueError, match="mine"):
            await asyncio.gather(*tasks)
        tasks[0].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(asyncio.run(main())[0], asyncio.CancelledError)
    assert capfd.readouterr() == ("", "")
    go_on.touch()


def test_elsewhere_nothing_is_shown(service: Service, capfd: pytest.CaptureFixture[str]) -> None:
    service.deploy_request(request_for("echo", ECHO))
    service.submit("echo").wait()
    assert capfd.readouterr() == ("", "")


def test_a_list_of_jobs(service: Service) -> None:
    service.deploy_request(request_for("echo", ECHO))
    submitted = [service.submit("echo", {"n": n}) for n in range(3)]
    for job in submitted:
        job.wait()
    page = service.jobs(limit=2)
    assert isinstance(page, JobList)
    assert list(page) == submitted[:0:-1]
    assert page.next_cursor
    assert repr(page).endswith("(there are older ones)")
    assert "There are older ones." in page._repr_html_()
    rest = service.jobs(limit=2, cursor=page.next_cursor)
    assert list(rest) == submitted[:1]
    assert rest.next_cursor is None
    overview = JobList(page, apis=service.get())
    assert "echo" in repr(overview).splitlines()[1]


def test_deploying_raises_where_a_result_says_error(service: Service) -> None:
    with pytest.raises(BadRequest):
        service.deploy({"name": "x y", "kind": "TaskAPI", "definition": {"path": "nowhere.py"}})


# Logs

WRITING = """
import pathlib, sys, time

def task(config):
    folder = pathlib.Path(config["folder"])
    for number, part in enumerate(config["parts"]):
        sys.stdout.buffer.write(bytes(part))
        sys.stdout.buffer.flush()
        while not (folder / str(number)).exists():
            time.sleep(0.005)
"""


def test_following_a_log(service: Service, tmp_path: Path) -> None:
    text = "first\nzwölf 日本\r\nrewritten\rline\n\nno end ä".encode()
    cuts = [0, 3, 8, 9, 12, 15, 20, len(text) - 1, len(text)]  # some within characters
    parts = [list(text[a:b]) for a, b in pairwise(cuts)]
    service.deploy_request(request_for("writing", WRITING))
    job = service.submit("writing", {"folder": str(tmp_path), "parts": parts})
    lines: list[str] = []
    follower = job.logs(follow=True)
    thread = threading.Thread(target=lambda: lines.extend(follower))
    thread.start()
    for number, end in enumerate(cuts[1:]):
        until(lambda end=end: service.log_chunk(job).size >= end, f"{end} bytes")  # type: ignore[misc]
        (tmp_path / str(number)).touch()
    thread.join(30)
    rewrites = lines.pop(2) if lines[2] == "rewritten" else None  # a state, where it was there at a look
    assert rewrites in (None, "rewritten")
    assert lines == ["first", "zwölf 日本", "line", "", "no end ä"]
    assert job.logs() == text.decode()
    assert job.logs(3) == "line\n\nno end ä"
    assert job.refresh().ended
    assert list(job.logs(2, follow=True)) == ["", "no end ä"]
    assert "".join(service.stream(job)) == text.decode()


def test_a_log_that_is_no_text(service: Service, tmp_path: Path) -> None:
    data = b"\xff\xfe ok \xe2\x82\n\x80"
    service.deploy_request(request_for("writing", WRITING))
    (tmp_path / "0").touch()
    job = service.submit("writing", {"folder": str(tmp_path), "parts": [list(data)]}).wait()
    assert job.logs() == data.decode("utf-8", "replace")
    assert list(job.logs(follow=True)) == data.decode("utf-8", "replace").split("\n")


def test_the_last_lines_of_a_long_log_are_read_from_its_end(service: Service) -> None:
    service.deploy_request(request_for("long", "def task(config):\n for n in range(200_000): print('line', n)\n"))
    job = service.submit("long").wait()

    class Counting(Service):
        read = 0

        def log_chunk(self, job: Job | str, offset: int = 0, limit: int = 1 << 20) -> LogChunk:
            chunk = super().log_chunk(job, offset, limit)
            self.read += len(chunk.data)
            return chunk

    counting = Counting(service.home)
    assert counting.logs(job, 3) == "line 199997\nline 199998\nline 199999\n"
    assert counting.read < 20_000
    assert counting.logs(job, 5000).startswith("line 195000\n")
    assert counting.logs(job, 0) == ""
    assert counting.logs(job, 10**9) == counting.logs(job)
    with pytest.raises(BadRequest, match="-1"):
        counting.logs(job, -1)


def written(data: bytes, most: int) -> Callable[[int], LogChunk]:
    """Return what reads from bytes as a server does that sends so many at most."""

    def fetch(offset: int) -> LogChunk:
        start = max(len(data) + offset, 0) if offset < 0 else min(offset, len(data))
        part = data[start : start + most]
        return LogChunk(part, start, start + len(part), len(data))

    return fetch


lines_of_text = st.lists(st.sampled_from([b"a", b"\n", b"\r", "ä".encode(), "日".encode(), b"\xff"])).map(b"".join)


@given(lines_of_text, st.integers(1, 9))
def test_whatever_is_written_is_read_whole(data: bytes, most: int) -> None:
    fetch, text, shown = written(data, most), data.decode("utf-8", "replace"), log_reader.text(data)
    assert log_reader.read(fetch)[0] == data
    assert "".join(log_reader.stream(fetch, lambda: True, None, at_once())) == text
    assert "\n".join(
        log_reader.lines(log_reader.stream(fetch, lambda: True, None, at_once()), states=False)
    ) == shown.removesuffix("\n")


@given(lines_of_text, st.integers(1, 9), st.integers(0, 6), st.integers(1, 5))
def test_the_last_lines_are_the_last_lines(data: bytes, most: int, count: int, reach: int) -> None:
    shown = log_reader.text(data).splitlines(keepends=True)
    found, missing, after = log_reader.tail(written(data, most), count, first=reach)
    assert log_reader.text(found) == "".join(shown[len(shown) - min(count, len(shown)) :])
    assert (missing, after) == (0, len(data))


def test_pauses_grow_to_a_ceiling() -> None:
    pauses = [log_reader.pause(waited, 0.25) for waited in (0, 0.01, 0.1, 1, 100)]
    assert pauses == [0.005, 0.005, 0.025, 0.25, 0.25]


def test_a_log_that_grows_while_the_job_is_looked_at_is_read_to_its_end() -> None:
    data = bytearray(b"one\n")

    def ends() -> bool:
        data.extend(b"two")  # written between the last read and the look
        return True

    def fetch(offset: int) -> LogChunk:
        return written(bytes(data), 100)(offset)

    assert "".join(log_reader.stream(fetch, ends, None, at_once())) == "one\ntwo"


def test_base_names_jobs_either_way(waiting: tuple[Job, Path]) -> None:
    job, _ = waiting
    api = job.api
    assert isinstance(api, TaskAPI)
    assert api.job_id(job) == api.job_id(job.id) == job.id
    assert next(api.logs(job.id, follow=True)) == "waiting"


def test_attributes_of_records_from_a_cluster(service: Service) -> None:
    service.deploy_request(request_for("echo", ECHO))
    record: Any = service.submit("echo").wait().record
    record.status, record.created_time = "status_succeeded", ""
    job = Job(service, record)
    assert job.status == "succeeded"
    assert job.created_time == job.start_time
