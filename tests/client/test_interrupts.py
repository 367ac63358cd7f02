"""Interrupting cells that wait, and the bar that waits of one cell share: in real kernels, under a server and without."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipykernel
import pytest

from support.homes import clean
from support.kernels import ALL_AT_ONCE, Kernel, Plain, Served, Shown
from support.servers import LiveServer, start_server

cells_of_their_own = pytest.mark.skipif(
    ipykernel.version_info < (7,), reason="ipykernel 6 shows what an earlier cell's task draws in the cell that runs"
)

PREPARE = """
%load_ext taskapi_jupyter
import asyncio, pathlib, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
async def awaited(job):
    return await job
"""

WAITS = """%%taskapi deploy waits
import pathlib, time
from taskapi_jupyter.job import progress

def run(config):
    progress(1, 4, "<b>one</b> of four")
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    return config["n"]
"""


@pytest.fixture(scope="module")
def kernel_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    server = start_server(tmp_path_factory.mktemp("server"))
    (server.home / "config.yaml").write_text(ALL_AT_ONCE)
    yield server
    server.process.kill()
    server.process.wait()
    clean(server.home)


def plain(folder: Path) -> Plain:
    (folder / "home").mkdir(mode=0o700)
    (folder / "home" / "config.yaml").write_text(ALL_AT_ONCE)
    return Plain(folder, folder / "home")


@pytest.fixture(scope="module", params=["plain", "served"])
def kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    folder = tmp_path_factory.mktemp("kernel")
    served = request.param == "served"
    kernel: Any = Served(request.getfixturevalue("kernel_server"), folder) if served else plain(folder)
    kernel.show(PREPARE)
    assert "created waits" in kernel.show(WAITS).text
    yield kernel
    kernel.close()
    if not served:
        clean(folder / "home")


@pytest.fixture
def three(kernel: Kernel) -> Iterator[list[str]]:
    """Return the ids of three jobs that run, in the notebook as ``jobs``; they end after the test."""
    go, ids = kernel.submit(3)
    yield ids
    go.touch()
    assert "0 1 2" in kernel.show("print(*[job.result() for job in jobs])").text


def interrupted(shown: Shown, ids: list[str], ordered: bool = True) -> None:
    """See that one sentence was said, and that the user sees of the interrupt no more than that it was one."""
    short = [job_id[-6:] for job_id in ids]
    if not ordered:
        short.sort(key=shown.text.find)
    if len(ids) == 1:
        sentence = f"job {ids[0]} still runs; to stop it: %taskapi stop {short[0]}\n"
    else:
        sentence = f"{len(ids)} jobs still run: {', '.join(short)}; to stop them: %taskapi stop {' '.join(short)}\n"
    assert shown.text == sentence
    assert shown.error == "KeyboardInterrupt: interrupted"
    assert len(shown.bars) == 1


def test_a_server_knows_what_a_cell_waits_for(kernel: Kernel, three: list[str], kernel_server: LiveServer) -> None:
    """A page shows no message about that; the kernel says it with each read, and a plain one has no server to tell."""

    def waited(*ids: str) -> list[str]:
        found: list[str] = kernel_server.fetch("GET", "waits", params={"ids": ",".join(ids)}).json()["ids"]
        return found

    served = isinstance(kernel, Served)
    assert waited(*three) == []
    kernel.show("jobs[1].refresh(); jobs[0].wait()", interrupt=True)
    assert waited(*three) == ([three[0]] if served else [])
    cell = "group = connect().map('waits', [jobs[0].config]); print(group.id)\nawait group"
    (group_id,) = kernel.show(cell, interrupt=True).text.split()[:1]
    assert waited("absent", group_id) == ([group_id] if served else [])


@pytest.mark.parametrize("cell", ["jobs[0].wait()", "await jobs[0]", "await awaited(jobs[0])",
    "await asyncio.wait_for(awaited(jobs[0]), 1000)", "one = jobs[0]\n%taskapi wait one", "jobs[0].result()"])  # fmt: skip
def test_interrupting_says_that_the_job_goes_on(kernel: Kernel, three: list[str], cell: str) -> None:
    interrupted(kernel.show(cell, interrupt=True), three[:1])


@pytest.mark.parametrize(
    ("cell", "value", "words"),
    [
        ("one = jobs[0]\n%taskapi wait one", "Job", "succeeded"),
        ("await jobs[0]", "Job", "succeeded"),
        ("%taskapi wait jobs", "JobList", "Submitted"),
        ("print('before')\nawait jobs[1]", "Job", "succeeded"),
    ],
)
def test_what_was_waited_for_is_shown_once(kernel: Kernel, cell: str, value: str, words: str) -> None:
    """As a card or a table in the place of its bar."""
    go, ids = kernel.submit(2)
    message, shown = kernel.send(cell), Shown()
    while True:
        answer = kernel.receive()
        if answer["parent_header"].get("msg_id") != message:
            continue
        if shown.take(answer):
            break
        if shown.pictures:
            go.touch()
    assert shown.text == "before\n" * ("before" in cell)
    assert len(shown.bars) == 1
    assert "<progress" in shown.pictures[0][1]["text/html"]
    last = shown.pictures[-1][1]
    assert "<table" in last["text/html"]
    assert words in last["text/html"]
    assert all(job_id in last["text/plain"] for job_id in (ids if value == "JobList" else ids[:1] * ("0]" in cell)))
    assert kernel.show("print(type(_).__name__)").text == f"{value}\n"


GROUP = """
async with asyncio.TaskGroup() as group:
    for job in jobs:
        group.create_task(awaited(job))
"""


@pytest.mark.parametrize("cell", [
    "await asyncio.gather(*jobs)",
    "await asyncio.gather(*jobs, return_exceptions=True)",
    "await asyncio.gather(asyncio.gather(*jobs[:2]), awaited(jobs[2]))",
    "await asyncio.wait([asyncio.create_task(awaited(job)) for job in jobs])",
    pytest.param(GROUP, marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup is newer")),
    "for one in asyncio.as_completed(map(awaited, jobs)):\n    await one",
    "%taskapi wait jobs",
])  # fmt: skip
def test_interrupting_many_says_it_once(kernel: Kernel, three: list[str], cell: str) -> None:
    shown = kernel.show(cell, interrupt=True)
    interrupted(shown, three, ordered="as_completed" not in cell)
    assert shown.pictures[0][1]["text/plain"].startswith("0 of 3 jobs ended")
    assert kernel.show("print([job.refresh().status for job in jobs])").text == "['running', 'running', 'running']\n"


@cells_of_their_own
def test_a_task_of_an_earlier_cell_is_interrupted_alike(kernel: Kernel, three: list[str]) -> None:
    kernel.show("task = asyncio.gather(*jobs)")
    shown = kernel.show("await asyncio.sleep(0.1)\ndisplay(1, display_id=True)\nawait task", interrupt=True)
    interrupted(shown, three)
    assert "CancelledError" in kernel.show("print(repr(task.exception()))").text


def test_a_cell_that_catches_the_cancellation_goes_on(kernel: Kernel, three: list[str]) -> None:
    shown = kernel.show(
        "try:\n    await asyncio.gather(*jobs)\nexcept asyncio.CancelledError as error:\n    print('caught', repr(error))",
        interrupt=True,
    )
    assert shown.error == ""
    assert "caught CancelledError" in shown.text
    assert shown.text.count("3 jobs still run") == 1


CANCELLING = """
import asyncio
try:
    await asyncio.wait_for(asyncio.gather(*jobs), 0.3)
except asyncio.TimeoutError:
    print("timed out")
task = asyncio.create_task(awaited(jobs[0]))
await asyncio.sleep(0.1)
task.cancel()
try:
    await task
except asyncio.CancelledError:
    print("cancelled", task.cancelled())
"""


def test_what_is_no_interrupt_stays_a_cancellation(kernel: Kernel, three: list[str]) -> None:
    shown = kernel.show(CANCELLING)
    assert (shown.text, shown.error) == ("timed out\ncancelled True\n", "")
    shown = kernel.show(
        "task = asyncio.create_task(awaited(jobs[0]))\nawait asyncio.sleep(0.1)\ntask.cancel()\nawait task"
    )
    assert shown.error.rstrip().endswith("CancelledError:")
    assert "still run" not in shown.text


def test_nothing_is_left_of_an_interrupt(kernel: Kernel, three: list[str]) -> None:
    before = kernel.show("import signal; print(signal.getsignal(signal.SIGINT))").text
    interrupted(kernel.show("await asyncio.gather(*jobs)", interrupt=True), three)
    assert kernel.show("print(signal.getsignal(signal.SIGINT))").text == before
    shown = kernel.show("raise asyncio.CancelledError('mine')")
    assert "Traceback" in shown.error
    assert shown.error.endswith("CancelledError: mine")
    shown = kernel.show("display(1, display_id=True)\nwhile True:\n    await asyncio.sleep(0.1)", interrupt=True)
    assert "still run" not in shown.text
    assert "CancelledError" in shown.error


def test_a_users_own_way_to_show_exceptions_is_left_alone(kernel: Kernel, three: list[str]) -> None:
    kernel.show(
        "shell = get_ipython()\n"
        "shell.set_custom_exc((ZeroDivisionError,), lambda shell, kind, error, tb, tb_offset=None: print('mine'))"
    )
    shown = kernel.show("await jobs[0]", interrupt=True)
    assert "still runs" in shown.text
    assert "mine" in kernel.show("1 / 0").text
    kernel.show("shell.set_custom_exc((), None)")


# One bar


def ends(kernel: Kernel, go: Path, ids: list[str], cell: str) -> Shown:
    """Run a cell during which the jobs end, once they were drawn."""
    shown = kernel.show(f"threading.Timer(1.5, go.touch).start()\n{cell}")
    assert shown.error == ""
    assert len(shown.bars) == 1
    pictures = [picture for _, picture, _ in shown.pictures]
    last = pictures[-1 - ("wait jobs" in cell)]  # where the value is shown, it takes the bar's place
    running = f"0 of {len(ids)} jobs ended  [#####               ]  {len(ids)} running"
    first = next(picture for picture in pictures if picture["text/plain"].startswith(running))  # once all threads wait
    assert f"{ids[0][-6:]} 25 %" in first["text/plain"]
    assert "&lt;b&gt;one&lt;/b&gt; of four" in first["text/html"]
    assert "<b>one" not in first["text/html"]
    assert all(job_id[-6:] in first["text/html"] for job_id in ids)
    assert last["text/plain"].startswith(
        f"{len(ids)} of {len(ids)} jobs ended  [####################]  {len(ids)} succeeded"
    )
    took = (shown.pictures[-1][2] - shown.pictures[0][2]).total_seconds()
    assert len(shown.pictures) <= took / 0.2 + 3
    return shown


@pytest.mark.parametrize("cell", [
    "await asyncio.gather(*jobs)",
    "%taskapi wait jobs",
    "with ThreadPoolExecutor(3) as pool:\n    list(pool.map(lambda job: job.wait(), jobs))",
    "other = threading.Thread(target=jobs[2].wait)\nother.start()\nawait asyncio.gather(*jobs[:2])\nother.join()",
])  # fmt: skip
def test_waits_of_a_cell_share_one_bar(kernel: Kernel, cell: str) -> None:
    ends(kernel, *kernel.submit(3), cell)


def test_a_wait_that_begins_later_joins_the_bar(kernel: Kernel) -> None:
    kernel.submit(2)
    cell = "first = asyncio.create_task(awaited(jobs[0]))\nawait asyncio.sleep(0.5)\nsecond = asyncio.create_task(awaited(jobs[1]))\n"
    shown = kernel.show(cell + "await asyncio.sleep(0.5)\ngo.touch()\nawait asyncio.gather(first, second)")
    assert len(shown.bars) == 1
    texts = [data["text/plain"] for _, data, _ in shown.pictures]
    assert texts[0].startswith("running  waits")
    assert texts[-1].startswith("2 of 2 jobs ended")


@cells_of_their_own
def test_cells_and_what_follows_have_bars_of_their_own(kernel: Kernel) -> None:
    kernel.submit(2)
    task = kernel.show(
        "task = asyncio.create_task(awaited(jobs[0]))\nwhile not (seen := task.done()):\n    await asyncio.sleep(0.5)\n    break"
    )
    shown = kernel.show("threading.Timer(0.7, go.touch).start()\nawait jobs[1]")
    assert not set(task.bars) & set(shown.bars)
    assert all(data["text/plain"].split()[1] == "waits" for _, data, _ in shown.pictures[:-1])  # the last is a card
    kernel.submit(2)
    shown = kernel.show("threading.Timer(0.7, go.touch).start()\nfor job in jobs:\n    job.wait()")
    assert len(shown.bars) == 2
    assert kernel.show("await asyncio.gather(*jobs)").pictures == []  # nothing to wait for
