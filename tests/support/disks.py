"""Disks that are full, and folders that are hard to remove."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from taskapi_jupyter.core.errors import Unavailable


def fill(path: Path) -> None:
    """Take all the room that a file system has left."""
    with path.open("wb", 0) as file:
        try:
            while True:
                file.write(bytes(4096))
        except OSError:
            pass


def refused(call: Any, *arguments: Any) -> str:
    with pytest.raises(Unavailable) as caught:
        call(*arguments)
    assert caught.value.status == 507
    return str(caught.value)


def until_refused(call: Any, *arguments: Any) -> tuple[list[Any], str]:
    """Call until there is no room left: some was taken before."""
    done = []
    for _ in range(300):
        try:
            done.append(call(*arguments))
        except Unavailable as error:
            assert error.status == 507, error
            return done, str(error)
    raise AssertionError("the disk is not full")


def take_inodes(folder: Path, but: int = 0) -> None:
    """Take the inodes that a file system has left, ``but`` for some."""
    folder.mkdir(exist_ok=True)
    number = len(list(folder.iterdir()))
    while os.statvfs(folder).f_ffree > but:
        with suppress(OSError):  # another process took the last one
            (folder / str(number)).touch()
        number += 1
    assert os.statvfs(folder).f_ffree == but


def free_inodes(folder: Path) -> None:
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


def deep(folder: Path, depth: int, name: str = "d") -> None:
    """Make folders within each other, with a file in the last one, by descriptors: no path is as long."""
    folder.mkdir()
    fd = os.open(folder, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir(name, dir_fd=fd)
        inner = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = inner
    os.close(os.open("last", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)


@contextmanager
def immutable(path: Path) -> Iterator[None]:
    """Have even root unable to remove a file; skip where that can't be."""
    if shutil.which("chattr") is None or subprocess.run(["chattr", "+i", path], capture_output=True).returncode:
        pytest.skip("no file can be made immutable here")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", path], capture_output=True)
