"""What clients send: headers configured in ``environments.yaml``, the kernel's id, its notebook's path."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.errors import Unavailable

KERNEL_HEADER = "X-TaskAPI-Kernel"  # of a submission: the kernel that it comes from
WAITS_HEADER = "X-TaskAPI-Waits"  # of a read: the kernel whose cell waits for what is read
VERSION_HEADER = "X-Taskapi-Version"  # of an answer: what ``since`` takes
ENDED_HEADER = "X-Log-Ended"  # of a piece of a log that was waited for: nothing more is written

EARLY = 0.05  # seconds; a server that answers sooner, and nothing new, has not held its answer: it is asked less often

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Value = str | dict[str, str]  # text, in which ${NAME} is a variable; {"env": NAME}; {"file": path}


_waits = ContextVar("taskapi_waits", default=False)


@contextmanager
def waiting() -> Iterator[None]:
    """Mark what this thread reads meanwhile as read because somebody waits for it."""
    token = _waits.set(True)
    try:
        yield
    finally:
        _waits.reset(token)


def of_wait() -> dict[str, str]:
    """Return the header of a read that a cell of this kernel waits for; pages then show no message about it."""
    kernel = kernel_id() if _waits.get() else None
    return {WAITS_HEADER: kernel} if kernel else {}


def read_value(environment: str, header: str, value: Value) -> str:
    """Return the current value of a header that an environment configures; no message shows it.

    Raises :class:`Unavailable` if the variable or the file that it is read from does not exist.
    """

    def missing(why: str) -> Unavailable:
        return Unavailable(f"environment {environment}: header {header}: {why}", kind="environment.credentials")

    def variable(name: str) -> str:
        try:
            return os.environ[name].strip()
        except KeyError:
            raise missing(f"the environment variable {name} is not set here") from None

    if isinstance(value, str):
        text = _VARIABLE.sub(lambda match: variable(match[1]), value)
    elif "env" in value:
        text = variable(value["env"])
    else:
        path = Path(value["file"]).expanduser()
        try:
            text = path.read_text("latin-1").strip()
        except OSError as error:
            raise missing(f"{path} can't be read: {error.strerror}") from None
    if not text.isprintable() or not _latin1(text):
        raise missing("its value holds characters that no header can have")
    return text


def _latin1(text: str) -> bool:
    try:
        text.encode("latin-1")
    except UnicodeEncodeError:
        return False
    return True


def notebook_of(variables: Mapping[str, Any]) -> str | None:
    """Return the path of the notebook whose variables these are, as its frontend tells it."""
    path = variables.get("__vsc_ipynb_file__") or os.environ.get("JPY_SESSION_NAME")
    return path if isinstance(path, str) and len(path) <= 4096 else None


def notebook_here() -> str | None:
    """Return the path of the notebook whose kernel this process is; None in any other process, such as a server."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return None if shell is None else notebook_of(shell.user_ns)


def kernel_id() -> str | None:
    """Return this kernel's id at its Jupyter server; None outside a kernel, or in one without a server."""
    kernel = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    if kernel is None or not kernel.initialized():
        return None
    found = re.fullmatch(r"kernel-([\w-]{1,100})\.json", Path(kernel.instance().connection_file).name)
    return found[1] if found else None
