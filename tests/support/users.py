"""Processes that act as another user."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest

from taskapi_jupyter.core.errors import TaskAPIError

NOBODY, OTHER = 65534, 23456  # two users that are not root


root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as two users")


def as_user(uid: int, call: Callable[[], str | None]) -> str | None:
    """Return what a call returns to another user; what it is refused with, where it is."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            try:
                answer: object = call()
            except TaskAPIError as error:
                answer = str(error)
            except BaseException as error:
                answer = error
            os.write(writer, pickle.dumps(answer))
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, "rb") as file:
        told = pickle.loads(file.read())
    os.waitpid(pid, 0)
    if isinstance(told, BaseException):
        raise told
    return told


def made(path: Path, uid: int, mode: int = 0o700) -> Path:
    path.mkdir()
    os.chown(path, uid, uid)
    path.chmod(mode)
    return path
