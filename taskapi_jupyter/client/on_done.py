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
PASSES = 10  # looks at most before functions are called, where each finds one more that has ended
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
    watched = _Watched(waited)
    has_ended = watched.look()
    if not has_ended:
        with thread.lock:
            ends = _ends.setdefault(waited.api, _Ends(waited.api))
            watched = ends.add(watched)
            callback = Callback(waited, watched, function)
        thread.begin(ends)
        return callback
    callback = Callback(waited, watched, function)
    if callback.shell is None or threading.current_thread() is threading.main_thread():
        callback.call()
    else:
        _deliver(callback)
    return callback


class Callback:
    """A function that is called once, when a job or a group has ended, unless it was cancelled before."""

    def __init__(self, waited: Waited, watched: _Watched, function: Callable[[Any], object]) -> None:
        self._waited: Any = waited  # what the user holds: it changes only where the function is called
        self._watched = watched
        self._called = waited.called
        self._function = function
        self._state: Literal["waits", "called", "cancelled"] = "waits"
        self.shell = cells.kernel_shell()
        self._place = cells.Place(self.shell)
        watched.callbacks.append(self)

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

    def call(self) -> None:
        """Call the function, unless it was cancelled; what it raises is shown, not raised."""
        with thread.lock:
            if self._state != "waits":
                return
            self._state = "called"
        with suppress(KeyboardInterrupt):  # of one that came too late to interrupt the function
            self._place.run(self._call)

    def _call(self) -> None:
        last = self._watched.last
        if self._watched.deleted:
            said = f"taskapi: {self._called} was deleted, so {_name(self._function)} is not called"
            print(said, file=sys.stderr)  # noqa: T201
            return
        self._waited.record = self._watched.record
        self._function(self._waited if last.id == self._waited.id else last)


class _Watched:
    """A job or a group that is waited for, as the thread reads it, and what is to be called."""

    def __init__(self, waited: Waited) -> None:
        self.id = waited.id
        self.last: Any = copy(waited)  # of a job its newest attempt
        self.record: Any = None  # of what was waited for, as last read
        self.deleted = False
        self.callbacks: list[Callback] = []

    @property
    def is_group(self) -> bool:
        return hasattr(self.last, "counts")

    @property
    def waits(self) -> bool:
        return any(callback.waits for callback in self.callbacks)

    @property
    def end_time(self) -> str:
        """When it ended, as text that sorts."""
        return str(self.last.record.end_time or "")

    def look(self) -> bool:
        """Read the state; return whether it has ended, as the last attempt of a job that is tried again."""
        while True:
            self.last.refresh()
            if self.last.id == self.id:
                self.record = self.last.record
            if not self.last.seen_ended:
                return False
            following = None if self.is_group else self.last.next_attempt()
            if following is None:
                return True
            self.last = following


class _Ends:
    """What is waited for in one environment."""

    def __init__(self, api: TaskAPI) -> None:
        self.api = api
        self._watched: dict[str, _Watched] = {}
        self._news: object = None  # up to where it is known which jobs have changed
        self._looked = float("-inf")  # when all were read
        self._added = True  # whether some were added since
        self._next = float("-inf")  # before which nothing is read
        self._retry = 0.0  # seconds until the server is asked again; 0 where it answers
        self._version: str | None = None

    @property
    def waits(self) -> bool:
        return bool(self._watched)

    def add(self, watched: _Watched) -> _Watched:
        """Wait for one more, and return it, or the same one that is waited for; the caller holds the lock."""
        self._added, self._next = True, float("-inf")
        return self._watched.setdefault(watched.id, watched)

    def step(self) -> None:
        """Read what may have ended, and have functions called, those first that ended first."""
        began = time.monotonic()
        if began < self._next:
            return
        with thread.lock:
            self._watched = {key: one for key, one in self._watched.items() if one.waits}
            waiting, added, self._added = list(self._watched.values()), self._added, False
        done, error = self._ended(waiting, began, added)
        now = time.monotonic()
        first, most = RETRY
        self._retry = min(max(2 * self._retry, first), most) if error else 0.0
        several = len(waiting) - len(done) > 1 and self.api.bell is None
        rest = max(REST, thread.SHARE * (now - began)) if several else 0.0
        with thread.lock:
            if error or not self._added:
                self._next = now + max(self._retry, rest)
            for one in done:
                del self._watched[one.id]
            if not self._watched and _ends.get(self.api) is self:
                del _ends[self.api]
            callbacks = [each for one in sorted(done, key=lambda one: one.end_time) for each in one.callbacks]
        for callback in callbacks:
            _deliver(callback)

    def _ended(self, waiting: list[_Watched], now: float, added: bool) -> tuple[list[_Watched], bool]:
        """Return those that have ended, and whether anything could not be read.

        As long as one is found the others are read again: they may have ended before it, just after they were read.
        """
        done, error = list[_Watched](), False
        try:
            for _ in range(PASSES):
                before = len(done)
                for one in self._may_have_ended(waiting, now, added):
                    try:
                        if one.look():
                            done.append(one)
                    except (JobNotFound, GroupNotFound):
                        one.deleted = True
                        done.append(one)
                    except Unreachable:
                        raise
                    except Exception:  # of this one: the others are read
                        error = True
                waiting = [one for one in waiting if one not in done]
                if len(done) == before or not waiting:
                    break
        except Exception:  # a server that is gone, a database that can't be read: it may come back
            error = True
        return done, error

    def _may_have_ended(self, waiting: list[_Watched], now: float, added: bool) -> list[_Watched]:
        if self.api.bell is None:
            if len(waiting) <= FEW:
                return waiting
            going = {job.id for job in self.api.jobs(status=sorted(IN_PROGRESS), limit=1000)}
            return [one for one in waiting if one.last.id not in going]
        self._news, news = self.api.changed(self._news)
        if news is None or added or now - self._looked > LOOK_ALL:
            self._looked = now
            return waiting
        changed = {*news}
        return [one for one in waiting if changed and (one.is_group or one.last.id in changed)]

    def hold(self, seconds: float) -> bool:
        """Have the server answer once something has changed; False where it can't, or has not."""
        began = time.monotonic()
        with thread.lock:
            waiting = list(self._watched.values())
        if not waiting or self._retry:
            return False
        with suppress(TaskAPIError):  # the next look finds it, too
            if len(waiting) == 1:
                return bool(waiting[0].last.hold(seconds))
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
    while _due and sys.displayhook is not shell.display_trap.hook:  # which it is while a cell runs
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
