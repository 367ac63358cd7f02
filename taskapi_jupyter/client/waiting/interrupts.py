"""On an interrupt, print that the jobs which are waited for go on.

A blocking wait gets a KeyboardInterrupt and prints it itself. Coroutines get none: a kernel cancels the cell's task,
which may wait for other tasks, and any code may cancel a task for other reasons. So there is a handler for SIGINT while
something waits in the main thread's event loop; a CancelledError is never caught.
"""

from __future__ import annotations

import contextvars
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol

from taskapi_jupyter.display.text import in_short

if TYPE_CHECKING:
    import asyncio

NAMED = 20  # jobs that the sentence names at most


class Waited(Protocol):
    """A job or a group that is waited for: what a sentence calls it, and the word that stops it."""

    @property
    def seen_ended(self) -> bool: ...
    @property
    def called(self) -> str: ...
    @property
    def short(self) -> str: ...


_waited_for: dict[object, Waited] = {}  # one for each wait in the main thread's event loop


def say_what_goes_on(jobs: Iterable[Waited]) -> None:
    """Print one sentence about the jobs that have not ended, and how to stop them."""
    going = [job for job in dict.fromkeys(jobs) if not job.seen_ended]
    ids = [job.short for job in going]
    if not ids:
        return
    if len(ids) == 1:
        text = f"{going[0].called} still runs; to stop it: %taskapi stop {ids[0]}"
    elif len(ids) <= NAMED:
        text = f"{len(ids)} jobs still run: {', '.join(ids)}; to stop them: %taskapi stop {' '.join(ids)}"
    else:
        more = f"{', '.join(ids[:NAMED])} and {len(ids) - NAMED} more"
        text = f"{len(ids)} jobs still run: {more}; to stop one: job.stop()"
    print(text, file=sys.stderr)  # noqa: T201


@contextmanager
def listening(job: Waited) -> Iterator[Callable[[], None]]:
    """Make an interrupt print that a job goes on. Call what this yields now and then: each cell sets a handler."""
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None  # an interrupt does not reach this event loop
        return
    wait = object()
    _waited_for[wait] = job
    try:
        _listen()
        yield _listen
    finally:
        del _waited_for[wait]
        handler = signal.getsignal(signal.SIGINT)
        if not _waited_for and isinstance(handler, _Listener):
            signal.signal(signal.SIGINT, handler.behind)


def _listen() -> None:
    """Put our handler before the present one, unless it is there already or interrupts are ignored."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler) and not isinstance(handler, _Listener):
        import asyncio

        signal.signal(signal.SIGINT, _Listener(handler, asyncio.get_running_loop()))


class _Listener:
    """A handler that prints which jobs go on, and passes the signal to the handler behind it."""

    saying = False  # one interrupt may pass through several of ours, where other code saves and restores handlers

    def __init__(self, behind: Callable[[int, Any], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.behind = behind
        self.loop = loop

    def __call__(self, number: int, frame: Any) -> None:
        jobs = list(_waited_for.values())  # copied first: the handler behind may cancel their waits at once
        if self.behind is signal.default_int_handler:  # its KeyboardInterrupt ends the loop
            say_what_goes_on(jobs)
        elif jobs and not _Listener.saying and self.loop.is_running():
            _Listener.saying = True
            # Runs before what the handler behind schedules. In an empty context: the output is the running cell's.
            self.loop.call_soon_threadsafe(self._say, jobs, context=contextvars.Context())
        self.behind(number, frame)

    def _say(self, jobs: Sequence[Waited]) -> None:
        _Listener.saying = False
        _shorten_cancellation()
        say_what_goes_on(jobs)


def _shorten_cancellation() -> None:
    """Make the running cell show the coming cancellation as one line, KeyboardInterrupt."""
    import asyncio

    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None or shell.custom_exceptions:  # the user's own handlers of exceptions stay
        return

    def show(shell: Any, kind: Any, error: Any, traceback: Any, tb_offset: Any = None) -> None:
        interrupt = in_short(KeyboardInterrupt())
        shell.showtraceback((KeyboardInterrupt, interrupt, None))

    def restore(*_: Any) -> None:
        shell.events.unregister("post_run_cell", restore)
        if shell.custom_exceptions == (asyncio.CancelledError,):
            shell.set_custom_exc((), None)

    shell.set_custom_exc((asyncio.CancelledError,), show)
    shell.events.register("post_run_cell", restore)
