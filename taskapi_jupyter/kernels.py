"""Which kernel of a Jupyter server this process is."""

from __future__ import annotations

import re
import sys
from pathlib import Path

KERNEL_HEADER = "X-TaskAPI-Kernel"  # of a submission: the kernel that it comes from


def kernel_id() -> str | None:
    """Return the id that a Jupyter server knows this kernel by; None in what is no kernel, or one of no server."""
    kernel = getattr(sys.modules.get("ipykernel.kernelapp"), "IPKernelApp", None)
    if kernel is None or not kernel.initialized():
        return None
    found = re.fullmatch(r"kernel-([\w-]{1,100})\.json", Path(kernel.instance().connection_file).name)
    return found[1] if found else None
