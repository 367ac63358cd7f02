"""Further attempts of jobs that failed: one at a time, exactly one after each failure, whatever is killed."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from support import PATIENCE, request_for, until
from support.homes import supervisor_of
from taskapi_jupyter.core.errors import BadRequest, JobFailed
from taskapi_jupyter.service.service import Service

#: Fails until its file has as many lines as it is told.
FLAKY = """
import os, time

def task(config):
    print("attempt", flush=True)
    with open(config["path"], "a") as file:
        file.write(f"{time.monotonic()}\\n")
    done = len(open(config["path"]).readlines())
    time.sleep(config.get("seconds", 0))
    if done < config["good"]:
        raise ValueError(f"attempt {done}")
    return done
"""


@pytest.fixture
def tries(service: Service, name: str, tmp_path: Path) -> Path:
    """Return the file in which the API of this test counts attempts."""
    service.deploy_request(request_for(name, FLAKY, compute={"cpu": "10m"}))
    return tmp_path / "tries"


def attempts(service: Service) -> list[int]:
    return sorted(job.record.attempt or 1 for job in service.jobs())


def test_it_is_tried_until_it_succeeds(service: Service, name: str, tries: Path) -> None:
    job = service.submit(name, {"path": str(tries), "good": 3}, retries=5)
    last = job.wait(PATIENCE)
    assert (last.status, last.record.attempt, last.result()) == ("succeeded", 3, 3)
    assert job.result(PATIENCE) == 3
    assert attempts(service) == [1, 2, 3]
    first = service.get(name, job.id)
    assert (first.status, first.reason, first.record.retry_of or None) == (
        "worker_error",
        "ValueError: attempt 1",
        None,
    )
    second = first.next_attempt()
    assert second is not None
    assert (second.record.retry_of, second.record.retried_by) == (job.id, last.id)
    assert [one.logs().splitlines()[0] for one in (first, second, last)] == ["attempt"] * 3  # the log of each is kept
    assert first.wait(follow=False).status == "worker_error"
    with pytest.raises(JobFailed):
        first.result(follow=False)
    assert (second.config, second.id < job.id) == (job.config, True)


async def test_an_await_follows(service: Service, name: str, tries: Path) -> None:
    last = await service.submit(name, {"path": str(tries), "good": 2}, retries=1)
    assert (last.status, last.record.attempt) == ("succeeded", 2)


def test_it_fails_in_the_end(service: Service, name: str, tries: Path) -> None:
    job = service.submit(name, {"path": str(tries), "good": 9}, retries=1)
    with pytest.raises(JobFailed, match="attempt 2"):
        job.result(PATIENCE)
    assert attempts(service) == [1, 2]


def test_only_after_the_states_that_were_named(service: Service, name: str, tries: Path) -> None:
    other = service.submit(name, {"path": str(tries), "good": 9}, retries=3, retry_on=["timed_out", "worker_oom"])
    assert (other.wait(PATIENCE).status, other.next_attempt()) == ("worker_error", None)
    late = service.submit(name, {"path": str(tries), "good": 0, "seconds": 60}, 1, retries=1, retry_on=["timed_out"])
    last = late.wait(PATIENCE)
    assert (last.status, last.record.attempt) == ("timed_out", 2)
    assert last.reason == "timed out 1 s after submission"  # of each attempt


def test_delays_double(service: Service, name: str, tries: Path) -> None:
    job = service.submit(name, {"path": str(tries), "good": 9}, retries=2, retry_delay=0.5)
    second = until(lambda: job.refresh().next_attempt(), "the second attempt")
    assert (second.status, second.reason) == ("pending", "attempt 2 of 3 begins in 1 s")
    job.wait(PATIENCE)
    began = list(map(float, tries.read_text().split()))
    assert [later - before >= least for before, later, least in zip(began[:2], began[1:], (0.5, 1.0), strict=True)] == [
        True,
        True,
    ]


def test_a_stop_cancels_the_attempt_to_come(service: Service, name: str, tries: Path) -> None:
    job = service.submit(name, {"path": str(tries), "good": 9}, retries=5, retry_delay=600)
    attempt = until(lambda: job.refresh().next_attempt(), "the second attempt")
    assert job.stop() == f"stopped job {attempt.id}, attempt 2 of {job.id}"
    assert (job.wait(PATIENCE).id, attempt.refresh().status) == (attempt.id, "stopped")
    running = service.submit(name, {"path": str(tries), "good": 9, "seconds": 60}, retries=5)
    until(running.logs, "it to run")
    running.stop()
    assert (running.status, running.record.retried_by or None) == ("stopped", None)
    assert not service.store.any_in_progress()


def test_one_that_is_run_again_is_tried_as_often(service: Service, name: str, tries: Path) -> None:
    job = service.submit(name, {"path": str(tries), "good": 5}, retries=1, retry_on=["worker_error"], retry_delay=0)
    assert job.wait(PATIENCE).record.attempt == 2
    again = job.rerun().wait(PATIENCE)
    assert (again.status, again.record.attempt) == ("worker_error", 2)
    last = again.rerun().wait(PATIENCE)  # what is run again may be an attempt
    assert (last.status, last.record.attempt, last.result()) == ("succeeded", 1, 5)


def test_attempts_of_a_group_count_once(service: Service, name: str, tmp_path: Path, tries: Path) -> None:
    configs = [{"path": str(tmp_path / f"tries{n}"), "good": n} for n in (1, 2, 9)]
    group = service.map(name, configs, retries=1, max_running=1).wait(PATIENCE)
    assert group.counts == {"succeeded": 2, "worker_error": 1}
    assert [(row["index"], row["attempt"], row["status"]) for row in group.rows()] == [
        (0, 1, "succeeded"),
        (1, 2, "succeeded"),
        (2, 2, "worker_error"),
    ]
    assert [(job.record.index, job.record.attempt) for job in service.jobs(group=group.id)] == [
        (2, 2), (2, 1), (1, 2), (1, 1), (0, 1),
    ]  # fmt: skip
    assert "5 jobs" in group.forget()


def test_a_supervisor_that_is_killed_loses_and_doubles_none(
    service: Service, home: Path, name: str, tries: Path
) -> None:
    job = service.submit(name, {"path": str(tries), "good": 9}, retries=4, retry_delay=0.01)

    def has_tried(number: int) -> bool:
        service.in_progress()  # starts another one, once the last one is dead
        return tries.exists() and len(tries.read_text().split()) >= number

    for number in range(1, 5):  # each around the time of another failure
        until(lambda number=number: has_tried(number), "an attempt")
        with suppress(ProcessLookupError, ValueError, KeyError):  # none is alive at this moment
            os.kill(supervisor_of(home), signal.SIGKILL)
    until(lambda: not service.in_progress(), "the last attempt to end")
    chain = [job.refresh()]
    while (following := chain[-1].next_attempt()) is not None:
        chain.append(following)
    assert [one.record.attempt for one in chain] == list(range(1, 6))
    assert attempts(service) == list(range(1, 6))


def test_after_a_restart_of_the_machine_a_delay_goes_on(service: Service, name: str, tries: Path, home: Path) -> None:
    job = service.submit(name, {"path": str(tries), "good": 2}, retries=1, retry_delay=600)
    attempt = until(lambda: job.refresh().next_attempt(), "the second attempt")
    pid = supervisor_of(home)
    os.kill(pid, signal.SIGKILL)
    with service.store.write() as transaction:  # as if it had been submitted 700 s ago, in an earlier boot
        transaction.execute(
            "UPDATE jobs SET boot = 'an earlier boot', due = 1e9, created = created - 700000000 WHERE id = ?",
            (attempt.id,),
        )
    assert attempt.wait(PATIENCE).status == "succeeded"


def test_bad_options(service: Service, name: str, tries: Path) -> None:
    for options, said in (
        ({"retries": True}, "retries must be"),
        ({"retries": 1.5}, "retries must be"),
        ({"retry_delay": -1}, "retry_delay"),
    ):
        with pytest.raises(BadRequest, match=said):
            service.submit(name, {}, **options)  # type: ignore[arg-type]
    assert service.jobs() == []
