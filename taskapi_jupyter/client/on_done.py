"""``job.on_done(f)`` and ``group.on_done(f)``: call a function once the job, or all jobs of the group, have ended.

The thread that waits (``client/waiting/thread``) learns of ends. In a kernel, functions are called in its main thread
between cells: after the running cell, or from the kernel's event loop while no cell runs, with their output below the
cell that registered them. Elsewhere a thread of ours calls them, one at a time: the main thread is the program's.
"""

from __future__ import annotations

import inspect
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from copy import copy
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from taskapi_jupyter.core.errors import BadRequest, GroupNotFound, JobNotFound, TaskAPIError, Unreachable
from taskapi_jupyter.core.states import IN_PROGRESS

from .headers import EARLY
from .waiting import cells, thread

if TYPE_CHECKING:
    from .groups.group import Group
    from .job import Job
    from .taskapi import TaskAPI

    Waited: TypeAlias = Job | Group

FEW = 4  # jobs that are read one by one where no bell rings; of more, a list says which have ended
LOOK_ALL = 5.0  # seconds after which all are read where a bell rings: a database may have been replaced
REST = 1.0  # seconds between two looks at several, at least, where no bell rings
RETRY = 1.0, 30.0  # seconds until a server that does not answer is asked again: at first, and at most

_ends: dict[TaskAPI, _Ends] = {}
_due: deque[Callback] = deque()  # in the order in which they are called
_caller: threading.Thread | None = None  # which calls them outside a kernel
_heard: list[Any] = []  # the shell whose cells' ends are listened for


def register(waited: Waited, function: Callable[[Any], object]) -> Callback:
    """Have a function called once a job or a group has ended; at once if it has. See :meth:`Job.on_done`."""
    if not callable(function):
        raise BadRequest(f"on_done takes a function of one argument, which it calls; got {_short(function)}")
    if inspect.iscoroutinefunction(function):
        raise BadRequest(
            f"on_done calls a function and awaits nothing, so {_name(function)} can't be async; to await the end: "
            "await the job or group itself"
        )
    callback = Callback(waited, function)
    if not callback.look():
        with thread.lock:
            ends = _ends.setdefault(waited.api, _Ends(waited.api))
            ends.add(callback)
        thread.begin(ends)
    elif callback.shell is None or threading.current_thread() is threading.main_thread():
        callback.call()
    else:
        _deliver(callback)
    return callback


class Callback:
    """A function that is called once, when a job or a group has ended, unless it was cancelled before."""

    def __init__(self, waited: Waited, function: Callable[[Any], object]) -> None:
        self._waited = waited  # what the user holds: it changes only where the function is called
        self._last: Waited | None = copy(waited)  # a job's last attempt; None: it was deleted
        self._own: Any = None  # the record of what the user holds, as last read
        self._called = waited.called
        self._function = function
        self._state: Literal["waits", "called", "cancelled"] = "waits"
        self.shell = cells.kernel_shell()
        self._place = cells.Place(self.shell)

    def cancel(self) -> bool:
        """Do not call the function; return False where it was called already, or is being called."""
        with thread.lock:
            if self._state == "waits":
                self._state = "cancelled"
            return self._state == "cancelled"

    @property
    def waits(self) -> bool:
        """Whether the function is still to be called."""
        return self._state == "waits"

    def __repr__(self) -> str:
        said = {"waits": "to be called at the end of", "called": "was called at the end of", "cancelled": "not called:"}
        return f"<Callback {_name(self._function)} {said[self._state]} {self._called}>"

    # In the thread that waits

    @property
    def last(self) -> Waited | None:
        """What is waited for, as last read: of a job its newest attempt; None where it was deleted."""
        return self._last

    def look(self) -> bool:
        """Read the state; return whether it has ended, as the last attempt of a job that is tried again."""
        last = self._last
        assert last is not None
        while True:
            last.refresh()
            if last.id == self._waited.id:
                self._own = last.record
            self._last = last
            if not last.seen_ended:
                return False
            following = None if _is_group(last) else last.next_attempt()  # type: ignore[union-attr]
            if following is None:
                return True
            last = following

    def lose(self) -> None:
        """Note that it was deleted."""
        self._last = None

    @property
    def end_time(self) -> str:
        """When it ended, as text that sorts."""
        return "" if self._last is None else str(self._last.record.end_time or "")

    # Where it is called

    def call(self) -> None:
        """Call the function, unless it was cancelled; what it raises is shown, not raised."""
        with thread.lock:
            if self._state != "waits":
                return
            self._state = "called"
        with suppress(KeyboardInterrupt):  # of one that came too late to interrupt the function
            self._place.run(self._call)

    def _call(self) -> None:
        if self._last is None:
            said = f"taskapi: {self._called} was deleted, so {_name(self._function)} is not called"
            print(said, file=sys.stderr)  # noqa: T201
            return
        waited: Any = self._waited
        waited.record = self._own
        self._function(waited if self._last.id == waited.id else self._last)


class _Ends:
    """The callbacks that wait for ends in one environment."""

    def __init__(self, api: TaskAPI) -> None:
        self.api = api
        self._callbacks: list[Callback] = []
        self._news: object = None  # up to where it is known which jobs have changed
        self._looked = float("-inf")  # when all were read
        self._added = True  # whether some were added since
        self._next = float("-inf")  # before which nothing is read
        self._retry = 0.0  # seconds until the server is asked again; 0 where it answers
        self._version: str | None = None

    @property
    def waits(self) -> bool:
        return bool(self._callbacks)

    def add(self, callback: Callback) -> None:
        """Wait for one more; the caller holds the lock."""
        self._callbacks.append(callback)
        self._added, self._next = True, float("-inf")

    def step(self) -> None:
        """Read what may have ended, and have functions called, those first that ended first."""
        began = time.monotonic()
        if began < self._next:
            return
        with thread.lock:
            callbacks = [one for one in self._callbacks if one.waits]
            added, self._added = self._added, False
        done, error = list[Callback](), None
        try:
            for callback in self._may_have_ended(callbacks, began, added):
                try:
                    if callback.look():
                        done.append(callback)
                except (JobNotFound, GroupNotFound):
                    callback.lose()
                    done.append(callback)
                except Unreachable:
                    raise
                except Exception as other:  # of this one: the others are read
                    error = other
        except Exception as other:  # a server that is gone, a database that can't be read: it may come back
            error = other
        now = time.monotonic()
        first, most = RETRY
        self._retry = min(max(2 * self._retry, first), most) if error else 0.0
        several = len(callbacks) - len(done) > 1 and self.api.bell is None
        rest = max(REST, thread.SHARE * (now - began)) if several else 0.0
        with thread.lock:
            if error or not self._added:
                self._next = now + max(self._retry, rest)
            self._callbacks = [one for one in self._callbacks if one.waits and one not in done]
            if not self._callbacks:
                _ends.pop(self.api, None)
        for callback in sorted(done, key=lambda one: one.end_time):
            _deliver(callback)

    def _may_have_ended(self, callbacks: list[Callback], now: float, added: bool) -> list[Callback]:
        if self.api.bell is None:
            if len(callbacks) <= FEW:
                return callbacks
            going = {job.id for job in self.api.jobs(status=sorted(IN_PROGRESS), limit=1000)}
            return [one for one in callbacks if _id(one.last) not in going]
        self._news, news = self.api.changed(self._news)
        if news is None or added or now - self._looked > LOOK_ALL:
            self._looked = now
            return callbacks
        changed = {*news}
        return [one for one in callbacks if changed and (_is_group(one.last) or _id(one.last) in changed)]

    def hold(self, seconds: float) -> bool:
        """Have the server answer once something has changed; False where it can't, or has not."""
        began = time.monotonic()
        with thread.lock:
            callbacks = list(self._callbacks)
        if not callbacks or self._retry:
            return False
        with suppress(TaskAPIError):  # the next look finds it, too
            last = callbacks[0].last
            if len(callbacks) == 1 and last is not None:
                return last.hold(seconds)
            before = self._version
            self._version = self.api.held_jobs(before, max(min(seconds, self._next - began), EARLY))
            return self._version is not None and (self._version != before or time.monotonic() - began >= EARLY)
        return False


def _deliver(callback: Callback) -> None:
    """Have a callback called where its kind is called."""
    global _caller  # noqa: PLW0603
    _due.append(callback)
    shell = callback.shell
    if shell is not None:
        if shell not in _heard:
            _heard[:] = [shell]
            shell.events.register("post_execute", _call_due)  # as post_run_cell, and after silent cells, too
        _soon(shell)
        return
    with thread.lock:
        if _caller is None:
            _caller = threading.Thread(target=_call_all, name="taskapi-on-done", daemon=True)
            _caller.start()


def _soon(shell: Any) -> None:
    """Have what is due called by the kernel's event loop: while a cell runs, its end comes before."""
    loop = getattr(shell.kernel, "io_loop", None)
    if loop is not None:
        loop.add_callback(_call_due)


def _call_due() -> None:
    """Call what is due, in the kernel's main thread, unless a cell runs there: it may await something."""
    shell = cells.kernel_shell()
    if shell is None or not _due:
        return
    if threading.current_thread() is not threading.main_thread():  # at the end of a subshell's cell
        _soon(shell)
        return
    while _due and not shell.display_trap.is_active:
        _due.popleft().call()


def _call_all() -> None:
    """Call what is due, until nothing is."""
    global _caller  # noqa: PLW0603
    while True:
        with thread.lock:
            if not _due:
                _caller = None
                return
            callback = _due.popleft()
        callback.call()


def _is_group(waited: Waited | None) -> bool:
    return hasattr(waited, "counts")


def _id(waited: Waited | None) -> str:
    return "" if waited is None else waited.id


def _name(function: object) -> str:
    name = getattr(function, "__name__", None)
    return name if isinstance(name, str) else _short(function)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:97]}..."


def _forget() -> None:
    """Begin anew in a forked child: what its parent waits for is the parent's."""
    global _caller  # noqa: PLW0603
    _caller = None
    _ends.clear()
    _due.clear()


os.register_at_fork(after_in_child=_forget)
