"""A job's log: its bound, what was dropped, and offsets that count what was written."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from taskapi_jupyter.runner import log_file
from taskapi_jupyter.runner.log_file import LogWriter

MARKER = re.compile(rb"\[\.\.\. (\d+) bytes of output were dropped here \.\.\.\]\n")


def kept(folder: Path) -> int:
    return sum((folder / name).stat().st_size for name in os.listdir(folder))


def pattern(begin: int, end: int) -> bytes:
    """Return output whose bytes tell where they belong."""
    return bytes((place * 7 + place // 251) % 256 for place in range(begin, end))


def read_all(folder: Path, limit: int = 1 << 20) -> list[tuple[int, bytes, int]]:
    """Read from the beginning to the end: ``(offset, data, dropped before it)`` of each piece."""
    pieces = []
    place = 0
    while True:
        data, offset, following, size = log_file.read(str(folder), place, limit)
        dropped = 0
        if match := MARKER.match(data):
            dropped = int(match[1])
            data = data[match.end() :]
        assert offset == place + dropped
        assert following == offset + len(data)
        pieces.append((offset, data, dropped))
        if following == size:
            return pieces
        assert following > place
        place = following


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert log_file.read(str(folder)) == (b"", 0, 0, 0)
        assert log_file.read(str(folder), -10) == (b"", 0, 0, 0)
        assert log_file.size(str(folder)) == 0


def test_all_is_kept_within_the_bound(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), 1000)
    written = b""
    for number in range(40):
        line = f"line {number}\n".encode()
        log.write(line)
        written += line
        assert log_file.read(str(tmp_path)) == (written, 0, len(written), len(written))
    log.close()
    assert len(written) < 1000


def test_without_a_bound_nothing_is_dropped(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), 0)
    log.write(pattern(0, 300_000))
    log.close()
    assert os.listdir(tmp_path) == ["log"]
    assert log_file.read(str(tmp_path), 0, 400_000)[0] == pattern(0, 300_000)


def test_head_and_newest_part_are_kept_with_a_line_that_says_what_was_dropped(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), 800)
    log.write(pattern(0, 10_000))
    log.close()
    assert kept(tmp_path) <= 800
    assert log_file.size(str(tmp_path)) == 10_000
    (_, head, _), (begin, tail, dropped) = read_all(tmp_path)
    assert head == pattern(0, 200)
    assert dropped == begin - 200
    assert tail == pattern(begin, 10_000)
    assert len(tail) >= 500


def test_offsets_from_the_end(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), 800)
    log.write(pattern(0, 10_000))
    log.close()
    assert log_file.read(str(tmp_path), -100) == (pattern(9900, 10_000), 9900, 10_000, 10_000)
    data, offset, following, size = log_file.read(str(tmp_path), -5000)  # in what was dropped
    assert (following, size) == (10_000, 10_000)
    assert MARKER.sub(b"", data) == pattern(offset, 10_000)
    assert log_file.read(str(tmp_path), -20_000)[1] == 0
    assert log_file.read(str(tmp_path), 20_000) == (b"", 10_000, 10_000, 10_000)


def test_reading_goes_on_where_the_last_read_ended(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), 4000)
    seen = b""
    place = 0
    for begin in range(0, 50_000, 333):
        log.write(pattern(begin, begin + 333))
        while (chunk := log_file.read(str(tmp_path), place, 100))[0]:
            assert not MARKER.match(chunk[0])  # a reader that keeps up loses nothing
            seen += chunk[0]
            place = chunk[2]
    log.close()
    assert seen == pattern(0, len(seen))
    assert len(seen) == log_file.size(str(tmp_path))


def test_the_end_of_a_huge_log_is_read_alone(tmp_path: Path) -> None:
    with open(tmp_path / "log", "wb") as file:
        file.truncate(1 << 40)  # a hole: a terabyte that takes no room
        file.seek(0, os.SEEK_END)
        file.write(b"the end\n")
    size = (1 << 40) + 8
    assert log_file.read(str(tmp_path), -8) == (b"the end\n", 1 << 40, size, size)
    assert log_file.read(str(tmp_path), 1 << 40, 4) == (b"the ", 1 << 40, (1 << 40) + 4, size)
    assert len(log_file.read(str(tmp_path), 5, 1000)[0]) == 1000


def test_output_that_could_not_be_kept_is_counted(tmp_path: Path) -> None:
    log = LogWriter(str(tmp_path), 8000)
    log.write(b"before")
    log.skip(100)
    log.write(b"after")
    log.skip(7)
    log.close()
    assert read_all(tmp_path)[:2] == [(0, b"before", 0), (106, b"after", 100)]
    assert log_file.size(str(tmp_path)) == 118


def test_a_folder_that_takes_no_new_file_for_a_while(tmp_path: Path) -> None:
    folder, away = tmp_path / "job", tmp_path / "away"
    folder.mkdir()
    log = LogWriter(str(folder), 800)
    log.write(pattern(0, 200))
    folder.rename(away)  # as good as a full disk: no part can be made
    for begin in (200, 300):
        with pytest.raises(OSError, match="No such file"):
            log.write(pattern(begin, begin + 100))
        log.skip(100)
    away.rename(folder)
    log.write(pattern(400, 450))
    log.close()
    assert read_all(folder) == [(0, pattern(0, 200), 0), (400, pattern(400, 450), 200)]


def test_a_full_disk_drops_nothing_that_was_kept_before(tmp_path: Path) -> None:
    code = """
import os, resource, signal, sys
from taskapi_jupyter.runner.log_file import LogWriter
log = LogWriter(sys.argv[1], 800)
log.write(b"x" * 700)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
for _ in range(50):
    before = log.offset
    try:
        log.write(b"y" * 20)
        sys.exit("it could be written")
    except OSError:
        log.skip(20 - (log.offset - before))
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.getrlimit(resource.RLIMIT_FSIZE)[1],) * 2)
log.write(b"z" * 10)
log.close()
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True, timeout=30)
    assert read_all(tmp_path) == [(0, b"x" * 700, 0), (1700, b"z" * 10, 1000)]


def test_readers_while_the_writer_drops_parts(tmp_path: Path) -> None:
    code = """
import sys
from taskapi_jupyter.runner.log_file import LogWriter
log = LogWriter(sys.argv[1], 4096)
for number in range(20_000):
    log.write(b"%07d\\n" % number)
log.close()
"""
    LogWriter(str(tmp_path), 4096).close()
    writer = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    place = 0
    while writer.poll() is None or place < log_file.size(str(tmp_path)):
        data, offset, following, size = log_file.read(str(tmp_path), place)
        lines = MARKER.sub(b"", data)
        assert offset >= place
        assert following <= size
        assert len(lines) == following - offset
        if lines:
            begin = (offset + 7) // 8
            whole = lines[begin * 8 - offset :]
            assert whole[:8] == (b"%07d\n" % begin)[: len(whole)]
        place = following
    assert writer.wait() == 0
    assert place == 160_000


@settings(deadline=None, max_examples=150)
@given(
    bound=st.integers(0, 400),
    steps=st.lists(st.tuples(st.booleans(), st.integers(1, 150)), max_size=30),
    limit=st.integers(1, 500),
    offset=st.integers(-3000, 3000),
)
def test_any_sequence_of_writes(bound: int, steps: list[tuple[bool, int]], limit: int, offset: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        log = LogWriter(name, bound)
        total = 0
        lost = set()
        for written, size in steps:
            if written:
                log.write(pattern(total, total + size))
            else:
                log.skip(size)
                lost |= set(range(total, total + size))
            total += size
        log.close()
        assert log_file.size(name) == total
        if bound:
            assert kept(folder) <= max(bound, 2)
        data, at, following, size = log_file.read(name, offset, limit)
        assert size == total
        assert at >= (max(total + offset, 0) if offset < 0 else min(offset, total))
        text = MARKER.sub(b"", data, count=1) if data.startswith(b"[...") else data
        assert (text, following) == (pattern(at, at + len(text)), at + len(text))
        assert len(text) <= limit
        there: set[int] = set()
        for begin, piece, _ in read_all(folder, limit):
            assert piece == pattern(begin, begin + len(piece))
            there |= set(range(begin, begin + len(piece)))
        assert not there & lost
        if not bound:
            assert there == set(range(total)) - lost
        elif not lost and total <= bound * 3 // 4:
            assert there == set(range(total))
