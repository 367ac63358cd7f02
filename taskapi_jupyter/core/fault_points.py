"""Named points between two writes at which a test can kill or pause a process. Standard library only.

``TASKAPI_FAULTS`` names a folder. A file in it, named as a point, says what happens to the process that reaches the
point: ``kill`` or ``pause``, optionally after a number of earlier passes (``kill 2``). It happens once. A paused
process writes its pid to ``NAME.held`` and goes on when that file is deleted. Without the variable, a point costs one
comparison.
"""

from __future__ import annotations

import os
import signal
import time

FOLDER = os.environ.get("TASKAPI_FAULTS")


def fault_point(name: str) -> None:
    """Mark a point at which a kill must lose nothing."""
    if FOLDER:
        _reach(os.path.join(FOLDER, name))


def _reach(path: str) -> None:
    try:
        with open(path) as file:
            what, _, after = file.read().partition(" ")
        with open(f"{path}.reached", "ab") as count:
            count.write(b".")
            if count.tell() <= int(after or 0):
                return
        os.rename(path, f"{path}.taken")  # one process takes it
    except FileNotFoundError:
        return
    with open(f"{path}.taken", "w") as file:
        file.write(str(os.getpid()))
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    held = f"{path}.held"
    with open(held, "w") as file:
        file.write(str(os.getpid()))
    while os.path.exists(held):
        time.sleep(0.001)
