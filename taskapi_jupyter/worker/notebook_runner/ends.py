"""How a notebook's job ends, other than well."""

from __future__ import annotations


class Failed(Exception):
    """The job's end by an error; the first argument is its reason."""

    marker = "raised"  # what the watcher judges by
    number = 0  # the signal that ends the runner, as it has ended the kernel
    logged = True  # whether the log says it already


class Stopped(Failed):
    """The job's end by a TERM."""

    marker = "terminated"
    number = 15


class CannotStart(Failed):
    """A kernel that can't be started: its specification or its program is not there."""

    marker = "unstartable"
    logged = False


class NotReady(Failed):
    """A kernel that has ended, or did not answer in time; the watcher adds what it wrote last."""

    marker = "unready"


class CannotInject(Failed):
    """Parameters that can't be written in the notebook's language."""

    logged = False
