"""What an interrupt says of the jobs that are waited for: they go on.

A blocking wait gets a KeyboardInterrupt and says it itself. Coroutines get none: a kernel cancels the cell's task,
which may wait for other tasks, and any code may cancel a task for other reasons. So SIGINT itself is listened to while
something in the main thread's event loop waits; a CancelledError is never touched.
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.display.text import in_short

if TYPE_CHECKING:
    from .taskapi import Job

NAMED = 20  # jobs that a sentence names at most

_waited_for: dict[object, Job] = {}  # by waits in the main thread's event loop


def say_what_goes_on(jobs: Iterable[Job]) -> None:
    """Print one sentence about the jobs that have not ended, and how to stop them."""
    going = [job for job in dict.fromkeys(jobs) if not job.seen_ended]
    ids = [job.id[-6:] for job in going]
    if not ids:
        return
    if len(ids) == 1:
        text = f"job {going[0].id} still runs; to stop it: %taskapi stop {ids[0]}"
    elif len(ids) <= NAMED:
        text = f"{len(ids)} jobs still run: {', '.join(ids)}; to stop them: %taskapi stop {' '.join(ids)}"
    else:
        more = f"{', '.join(ids[:NAMED])} and {len(ids) - NAMED} more"
        text = f"{len(ids)} jobs still run: {more}; to stop one: job.stop()"
    print(text, file=sys.stderr)  # noqa: T201


@contextmanager
def listening(job: Job) -> Iterator[Callable[[], None]]:
    """Have an interrupt say that a job goes on; what is given is called now and then, as each cell has a handler."""
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
    """Put a listener in front of the handler that there is, unless one is there, or interrupts are ignored."""
    handler = signal.getsignal(signal.SIGINT)
    if callable(handler) and not isinstance(handler, _Listener):
        signal.signal(signal.SIGINT, _Listener(handler, asyncio.get_running_loop()))


class _Listener:
    """A handler that says what goes on and hands the signal on."""

    saying = False  # one interrupt may pass through several, where others keep handlers and put them back

    def __init__(self, behind: Callable[[int, Any], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.behind = behind
        self.loop = loop

    def __call__(self, number: int, frame: Any) -> None:
        jobs = list(_waited_for.values())  # as the handler behind may cancel their waits at once
        if self.behind is signal.default_int_handler:  # its KeyboardInterrupt ends the loop
            say_what_goes_on(jobs)
        elif jobs and not _Listener.saying and self.loop.is_running():
            _Listener.saying = True
            # Before what the handler behind has the loop do. In no context: the output is the running cell's.
            self.loop.call_soon_threadsafe(self._say, jobs, context=contextvars.Context())
        self.behind(number, frame)

    def _say(self, jobs: Sequence[Job]) -> None:
        _Listener.saying = False
        _shorten_cancellation()
        say_what_goes_on(jobs)


def _shorten_cancellation() -> None:
    """Have the running cell show the cancellation that is coming as what it is to its user: an interrupt, in short."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython else None
    if getattr(shell, "kernel", None) is None or shell.custom_exceptions:  # else the user shows some exceptions anew
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
