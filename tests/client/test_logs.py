"""Logs whose lines rewrite themselves: what is shown of them, bounded, and as they grow."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support import at_once, request_for, until
from support.servers import LiveServer
from taskapi_jupyter.client import log_reader
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job, TaskAPI
from taskapi_jupyter.core.contract import LogChunk
from taskapi_jupyter.display.screen import LONG_LINE, SEQUENCE, Screen, Thinned, rewritten
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui.magics import show

TQDM = "start\n" + "".join(f"\r{n:3d}%|{'#' * (n // 10):10}|" for n in range(101)) + "\nend\n"
UP = "\x1b[A"
TWO_BARS = "start\n" + "".join(f"\rone {n}\n\rtwo {n}{UP}" for n in range(50)) + "\n\nend\n"

# What a terminal shows of it


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (TQDM, "start\n100%|##########|\nend\n"),
        (TWO_BARS, "start\none 49\ntwo 49\nend\n"),
        ("a\r\nb\r\r\nc\r\n", "a\nb\nc\n"),
        ("one\rtwo", "two"),
        ("one\rtwo\r", "two"),
        ("bar\r   \r\nnext", "bar\nnext"),
        ("bar\r\x1b[2K\rdone\n", "done\n"),
        ("\r\x1b[31m10%\x1b[0m\r\x1b[32m20%\x1b[0m", "\x1b[32m20%\x1b[0m"),
        ("\r\n\r\n", "\n\n"),
        ("", ""),
        ("\r", ""),
        ("\x1b[A\x1b[99Aabove", "above"),
        ("a\nb\nc\x1b[2F\rx", "x\nb\nc"),
        ("\x00\xff\r\x01\n", "\x01\n"),
    ],
)
def test_a_screen_is_left_with_the_last_states(text: str, shown: str) -> None:
    assert rewritten(text) == shown


written = st.lists(st.sampled_from(["a", "bc", " ", "ä", "\n", "\r", "\r\n", UP, "\x1b[31m", "\x1b", "\x1b[2"])).map(
    "".join
)


def pieces(text: str, cuts: list[int]) -> Iterator[str]:
    """Yield a text in pieces."""
    at = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    yield from (text[a:b] for a, b in pairwise(at))


@example(" \r  ", [3])
@example("ä\r\x1b a", [3, 4])
@given(written, st.lists(st.integers(0, 50)))
def test_it_matters_not_where_a_text_is_cut(text: str, cuts: list[int]) -> None:
    whole, in_pieces = Screen(whole=True), Screen(whole=True)
    whole.feed(text)
    for piece in pieces(text, cuts):
        in_pieces.feed(piece)
    assert whole.rows == in_pieces.rows
    assert list(log_reader.lines([text], states=False)) == list(log_reader.lines(pieces(text, cuts), states=False))


@example("a\r\x1b \r", [1])
@given(written.filter(lambda text: UP not in text), st.lists(st.integers(0, 50)))
def test_what_is_left_out_for_a_screen_is_not_missed_on_it(text: str, cuts: list[int]) -> None:
    screen, text = Thinned(), f"{text}\n"  # so that no sequence is left half at the end
    out = "".join([*(screen.feed(piece) for piece in pieces(text, cuts)), screen.close()])
    assert bare(rewritten(out)) == bare(rewritten(text))


def bare(text: str) -> list[str]:
    return [re.sub("[^abcä]", "", SEQUENCE.sub("", line)) for line in text.split("\n")]


def test_a_shorter_state_leaves_nothing_of_a_longer_one() -> None:
    screen = Thinned()
    assert screen.feed("\ra longer state") == "\ra longer state"
    assert screen.feed("\rskipped\rshort") == f"\r{' ' * 14}\rshort"
    assert screen.feed("er") == "er"
    assert screen.feed("\r") == ""
    assert screen.feed("\nnext\n") == "\nnext\n"


def test_cursor_moves_reach_the_screen() -> None:
    screen = Thinned()
    assert screen.feed(f"\rone\n\rtwo{UP}") == f"\rone\n\rtwo{UP}"


# Following


def told(*parts: str) -> Iterator[str]:
    """Yield parts as a log that is followed does, which says that nothing new was written."""
    for part in parts:
        yield part
        yield from (time.sleep(0.01) or "" for _ in range(15))


def test_states_come_as_they_are_written() -> None:
    assert list(log_reader.lines(told("\r 1%", "\r 2%\r 3%", "\r 4%", "\nend\r", "\n"))) == [
        " 1%",
        " 2%",
        " 3%",
        " 4%",
        "end",
    ]
    assert list(log_reader.lines(told("half a", " line", "\n"))) == ["half a line"]


def test_states_come_ten_a_second_at_most_and_the_last_one_always() -> None:
    def bar() -> Iterator[str]:
        for n in range(200):
            time.sleep(0.002)
            yield f"\r{n}"
        yield "\n"

    began = time.monotonic()
    states = list(log_reader.lines(bar()))
    assert len(states) <= (time.monotonic() - began) / 0.1 + 2
    assert states[-1] == "199"


def test_several_bars_are_told_as_rows() -> None:
    assert list(log_reader.lines([TWO_BARS], states=False)) == ["start", "one 0", "one 49", "two 49", "end"]


def test_a_line_without_an_end_is_given_out_in_parts() -> None:
    got = list(log_reader.lines(["x" * 300_000] * 10))
    assert "".join(got) == "x" * 3_000_000
    assert max(map(len, got)) <= LONG_LINE + 300_000


# Bounds


class Written:
    """A log that counts what is read of it."""

    def __init__(self, data: bytes) -> None:
        self.data, self.read = data, 0

    def __call__(self, offset: int) -> LogChunk:
        size = len(self.data)
        start = max(size + offset, 0) if offset < 0 else min(offset, size)
        part = self.data[start : start + (1 << 20)]
        self.read += len(part)
        return LogChunk(part, start, start + len(part), size)


def state(n: int) -> str:
    return f"\rEpoch 1: {n:8d} of 1000000 [{'ä' * 40}]"


BAR = "".join(map(state, range(400_000))).encode()  # 44 MB


@pytest.mark.parametrize("end", [b"", b"\n", b"\r", b"\r\n"])
def test_of_an_endless_bar_little_is_read(end: bytes) -> None:
    last = state(399_999)[1:]
    log = Written(b"start\n" + BAR + end)
    data, missing, _ = log_reader.tail(log, 3)
    assert log_reader.text(data).rstrip("\n") == last
    assert missing > 0
    assert log.read < 10 << 20
    data, start, _ = log_reader.newest(log)
    assert start > 0
    assert log_reader.text(data).rstrip("\n") == last
    for follows in (
        log_reader.stream(log, lambda: True, 1, at_once(), most=log_reader.SHOWN),
        log_reader.stream(log, lambda: True, None, at_once(), most=log_reader.SHOWN),
    ):
        shown = list(log_reader.lines(follows))
        assert shown[-1] == last
        assert len(shown) <= 3  # a note, and where the bar has no end, the state before it


def test_the_last_rows_of_several_bars() -> None:
    two = TWO_BARS.encode()
    for count, shown in ((1, "end\n"), (2, "two 49\nend\n"), (3, "one 49\ntwo 49\nend\n"), (9, rewritten(TWO_BARS))):
        assert log_reader.text(log_reader.tail(Written(two), count)[0]) == shown
    running = TWO_BARS[: TWO_BARS.index("\n\nend")] * 2000  # 1.6 MB, and the cursor is in the first of two rows
    data, _, _ = log_reader.tail(Written(running.encode()), 2)
    assert log_reader.text(data) == "one 49\ntwo 49"
    assert log_reader.text(data + b"\rone 50") == "one 50\ntwo 49"
    log = Written(running.encode())
    assert log_reader.text(log_reader.tail(log, 100)[0]).endswith("one 49\ntwo 49")
    assert log.read < 3 << 20


def test_one_line_of_many_megabytes_is_not_nothing() -> None:
    data, start, _ = log_reader.newest(Written("日".encode() * 1_000_000 + b"\n"))
    assert log_reader.text(data) in ("日" * n + "\n" for n in (349_524, 349_525))
    assert start == 3_000_001 - len(data)
    assert log_reader.text(log_reader.tail(Written(BAR + b"\nlast\n"), 1)[0]) == "last\n"
    assert log_reader.text(log_reader.tail(Written(b"\xff" * 3_000_000), 1)[0]).strip("\ufffd") == ""


def test_whoever_falls_behind_goes_on_with_the_newest() -> None:
    log = Written(b"".join(b"line %d\n" % n for n in range(400_000)))
    follows = log_reader.stream(log, lambda: True, None, at_once(), most=100_000, skip=True)
    text = next(follows) + next(follows)
    assert text.startswith("[... 4.4 MiB of output are left out here; job.logs() returns all ...]\nline ")
    log.data += b"half a li" + b"ne, and" * 100_000 + b"\nthe end\n"
    assert [one for one in follows if one][-1] == "the end\n"


def test_what_was_dropped_begins_a_line() -> None:
    marker = b"[... 7 bytes of output were dropped here ...]\n"
    chunks = [LogChunk(b"half \xe2\x82", 0, 7, 20), LogChunk(marker + b"on\n", 14, 17, 17), LogChunk(b"", 17, 17, 17)]
    follows = log_reader.stream(lambda offset: chunks[min(offset, 1) + (offset > 7)], lambda: True, None, at_once())
    assert "".join(follows) == f"half \ufffd\n{marker.decode()}on\n"


def test_printing_is_slower_than_a_server_allows(capsys: Any) -> None:
    printer = show.Printer()
    printer.rate, printer.burst, printer._room = 1_000_000, 100_000, 100_000.0
    began = time.monotonic()
    printer.write("\x00" * 50_000)  # 300,000 bytes of a message
    assert time.monotonic() - began >= 0.19
    assert capsys.readouterr().out == "\x00" * 50_000


def test_one_writes_to_the_output_that_is_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.StringIO()
    monkeypatch.setattr("sys.stdout", out)
    show.printer.write("text")
    assert out.getvalue() == "text"


# Jobs


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest) -> TaskAPI:
    """Return the way to a job's log: in this process, or through a server."""
    if request.param == "service":
        service: Service = request.getfixturevalue("service")
        return service
    server: LiveServer = request.getfixturevalue("live_server")
    return Client(server.taskapi, server.token)


BARS = """
import pathlib, sys, time

def task(config):
    print("start")
    for n in range(config["states"]):
        sys.stdout.write(f"\\rstate {n:06d} of {config['states']} " + "ä" * 30)
    sys.stdout.flush()
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
    print(config["end"], end="")
"""


def bar_of(n: int, states: int) -> str:
    return f"state {n:06d} of {states} {'ä' * 30}"


def test_the_log_of_a_bar(api: TaskAPI, tmp_path: Any) -> None:
    api.deploy_request(request_for("bars", BARS))
    job = api.submit("bars", {"states": 30_000, "path": str(tmp_path / "go"), "end": "\n\nbye"})
    last = bar_of(29_999, 30_000)
    lines = job.logs(follow=True)
    while (line := next(lines)) != last:  # it comes, though its line has no end
        assert line == "start" or line.startswith(("state ", "[... "))
    (tmp_path / "go").touch()
    assert list(lines) == ["", "bye"]
    job.wait()
    whole = job.logs()
    assert whole == "start\n" + "".join(f"\r{bar_of(n, 30_000)}" for n in range(30_000)) + "\n\nbye"
    assert job.logs(1) == "bye"
    assert job.logs(3) == f"{last}\n\nbye"
    assert list(job.logs(3, follow=True)) == [last, "", "bye"]
    note, *rest = job.logs(follow=True)
    assert note.startswith("[... 1.4 MiB of output are left out here")
    assert rest == [last, "", "bye"]
    chunks = list(api.log_chunks(job, follow=True))
    assert b"".join(chunk.data for chunk in chunks) == whole.encode()
    assert b"".join(chunk.data for chunk in api.log_chunks(job, 1)) == b"bye"


def test_raw_bytes_say_by_their_offsets_what_was_dropped(service: Service) -> None:
    (service.home / "config.yaml").write_text("log_max_bytes: 8192\n")
    service.deploy_request(request_for("loud", "def task(config):\n for n in range(10_000): print(n)\n"))
    job: Job = service.submit("loud").wait()
    first, *rest = service.log_chunks(job)
    assert rest[0].offset > first.next
    written = "".join(f"{n}\n" for n in range(10_000)).encode()
    for chunk in (first, *rest):
        assert chunk.data == written[chunk.offset : chunk.next]
    until(lambda: rest[-1].next == len(written), "its end")
