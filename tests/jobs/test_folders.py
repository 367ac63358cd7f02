"""Folders that a task filled: however deep and however many, with what can't be removed in them."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.disks import deep, immutable
from support.namespaces import unshared
from taskapi_jupyter.core import folders

NOBODY = 65534


@pytest.fixture
def few_descriptors() -> Iterator[None]:
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/dev/fd")))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 8, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)


@pytest.mark.parametrize(("depth", "name"), [(1100, "d"), (1100, "a name of many characters " * 5), (20_000, "d")])
def test_deeper_than_a_path(roomy: Path, depth: int, name: str, few_descriptors: None) -> None:
    deep(roomy / "x", depth, name)
    (roomy / "x" / "first").write_text("1234")
    found, cut = folders.files(roomy / "x")
    assert [(path, about.st_size) for path, about in found] == [("first", 4)]
    assert cut is not None
    assert "more than 100 folders deep" in cut
    assert len(cut) < 300
    assert folders.remove(roomy / "x") == (True, [])
    assert list(roomy.iterdir()) == []


def test_a_hundred_folders_are_listed(tmp_path: Path) -> None:
    deep(tmp_path / "x", 100)
    found, cut = folders.files(tmp_path / "x")
    assert [path for path, _ in found] == ["d/" * 100 + "last"]
    assert cut is None


def test_more_files_than_are_listed(roomy: Path) -> None:
    (roomy / "x").mkdir()
    for number in range(folders.MAX_ENTRIES + 1):
        os.close(os.open(roomy / "x" / str(number), os.O_CREAT | os.O_WRONLY))
    found, cut = folders.files(roomy / "x")
    assert len(found) == folders.MAX_ENTRIES
    assert cut is not None
    assert cut.startswith("only 100,000 files are listed")
    assert folders.remove(roomy / "x", time.monotonic() - 1) == (False, [])
    slices = 0
    while not folders.remove(roomy / "x", time.monotonic() + 0.02).gone:
        slices += 1
    assert slices > 1
    assert list(roomy.iterdir()) == []


def test_what_is_no_folder(tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    (target / "kept").write_text("x")
    (tmp_path / "link").symlink_to(target)
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "file", "fifo", "missing", "missing/below"):
        assert folders.files(tmp_path / name) == ([], None)
        assert folders.remove(tmp_path / name) == (True, [])
    assert [path.name for path in tmp_path.iterdir()] == ["target"]
    assert (target / "kept").read_text() == "x"


def test_links_within_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").write_text("x")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "x" / "loop").symlink_to("loop")
    assert folders.files(tmp_path / "x") == ([], None)
    assert folders.remove(tmp_path / "x") == (True, [])
    assert (tmp_path / "kept" / "file").read_text() == "x"


def test_what_can_not_be_removed_does_not_stop_the_rest(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / "x" / f"{number}" / "sub").mkdir(parents=True)
        (tmp_path / "x" / f"{number}" / "sub" / "file").write_text("x")
    stays = tmp_path / "x" / "2" / "sub" / "stays\n"
    stays.write_text("x")
    with immutable(stays):
        gone, stuck = folders.remove(tmp_path / "x")
        assert not gone
        assert stuck == [(f"{tmp_path}/x/2/sub/stays\ufffd", "Operation not permitted")]
        assert [path.relative_to(tmp_path / "x").as_posix() for path in (tmp_path / "x").rglob("*")] == [
            "2",
            "2/sub",
            "2/sub/stays\n",
        ]
    assert folders.remove(tmp_path / "x") == (True, [])


def test_folders_that_their_owner_may_not_change() -> None:
    """Such as Go's cache of modules."""
    folder = Path(tempfile.mkdtemp())  # pytest's may be entered by its owner alone

    def remove() -> folders.Removal:
        for mode in (0o000, 0o100, 0o400, 0o500):
            (folder / "x" / f"{mode}" / "sub").mkdir(parents=True)
            (folder / "x" / f"{mode}" / "sub" / "file").write_text("x")
            for path in (folder / "x" / f"{mode}" / "sub", folder / "x" / f"{mode}"):
                path.chmod(mode)
        (folder / "x").chmod(0o500)
        return folders.remove(folder / "x")

    if os.geteuid():
        assert remove() == (True, [])
    else:
        os.chown(folder, NOBODY, NOBODY)
        if (child := os.fork()) == 0:
            try:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
                os._exit(0 if remove() == (True, []) else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    folders.remove(folder)


MOUNTED = """
import subprocess, sys
from pathlib import Path
from taskapi_jupyter.core import folders
folder = Path(sys.argv[1])
(folder / "x" / "a" / "mounted").mkdir(parents=True)
(folder / "kept").mkdir()
(folder / "kept" / "file").write_text("x")
(folder / "x" / "b").mkdir()
subprocess.run(["mount", "--bind", folder / "kept", folder / "x" / "a" / "mounted"], check=True)
assert folders.remove(folder / "x") == (False, [(f"{folder}/x/a/mounted", "something is mounted there")])
assert (folder / "kept" / "file").read_text() == "x"
assert not (folder / "x" / "b").exists()
subprocess.run(["umount", folder / "x" / "a" / "mounted"], check=True)
assert folders.remove(folder / "x") == (True, [])
"""


def test_what_is_mounted_below_stays(tmp_path: Path) -> None:
    command = [*unshared("--mount"), sys.executable, "-c", MOUNTED, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
