"""Values of headers that the client's side sends: those of ``environments.yaml``, and which kernel this process is."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from taskapi_jupyter.core.errors import Unavailable

KERNEL_HEADER = "X-TaskAPI-Kernel"  # of a submission: the kernel that it comes from

_VARIABLE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}")

Value = str | dict[str, str]  # text, in which ${NAME} is a variable; {"env": NAME}; {"file": path}


def read_value(environment: str, header: str, value: Value) -> str:
    """Return a header's value as it is now, for an environment that configures it; no message shows it.

    Raises :class:`Unavailable` where the variable or the file that it is read from is not there.
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


def kernel_id() -> str | None:
    """Return the id that a Jupyter server knows this kernel by; None in what is no kernel, or one of no server."""
    kernel = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    if kernel is None or not kernel.initialized():
        return None
    found = re.fullmatch(r"kernel-([\w-]{1,100})\.json", Path(kernel.instance().connection_file).name)
    return found[1] if found else None
