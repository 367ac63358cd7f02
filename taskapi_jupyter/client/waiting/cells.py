"""Run a function later as if a cell ran it: with its output below that cell, and open to interrupts."""

from __future__ import annotations

import contextvars
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from taskapi_jupyter.display.text import in_short


def kernel_shell() -> Any:
    """Return IPython's shell in a kernel; None elsewhere."""
    ipython = sys.modules.get("IPython")
    shell: Any = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None and hasattr(shell, "get_parent") else None


class Place:
    """Where output goes now: below the running cell in a kernel, to standard output elsewhere."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._context = contextvars.copy_context()  # by which ipykernel knows the cell, from version 7 on
        self._parent = None if shell is None else shell.get_parent()
        self._header = None if shell is None else _header(shell)

    def run(self, function: Callable[[], object]) -> None:
        """Run a function, once, and show what it raises there: SystemExit too, which would end the kernel."""
        self._context.run(self._run, function)

    def _run(self, function: Callable[[], object]) -> None:
        with self._output(), _interruptible():
            try:
                function()
            except BaseException as error:
                _show(self._shell, error)

    @contextmanager
    def _output(self) -> Iterator[None]:
        """Have output go there where the context does it only in part: before ipykernel 7."""
        shell = self._shell
        if shell is None or _header(shell) == self._header:
            yield
            return
        before = shell.get_parent()
        shell.set_parent(self._parent)
        try:
            yield
        finally:
            shell.set_parent(before)


def _header(shell: Any) -> Any:
    """Return the header of the message to which output belongs now."""
    return getattr(shell.display_pub, "parent_header", None)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Have an interrupt reach a function: kernels ignore them while no cell runs."""
    in_main = threading.current_thread() is threading.main_thread()
    if not in_main or signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        yield
        return
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def _show(shell: Any, error: BaseException) -> None:
    """Show what a function raised, without the frames of ours."""
    trace = error.__traceback__
    while trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("taskapi_jupyter.client."):
        trace = trace.tb_next
    shown = in_short(error) if isinstance(error, KeyboardInterrupt) else error
    if shell is not None:
        shell.showtraceback((type(shown), shown, trace), tb_offset=0)
    else:
        traceback.print_exception(type(shown), shown, trace)
