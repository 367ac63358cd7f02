"""The beginning of a notebook's job, and its exit."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

import harness  # type: ignore[import-not-found]

from .ends import Failed
from .kernel import Kernel
from .telling import Log

#: What jsonschema checks formats with that no notebook has; it does without what can't be imported. The first takes two
#: seconds to import, the others a tenth.
UNUSED = ("rfc3987_syntax", "isoduration", "rfc3986_validator", "fqdn", "uri_template", "webcolors")


def main() -> None:
    """Run the job that the environment names, with the settings in the last argument."""
    sys.path.pop(0)  # the harness's folder, which has modules of many names
    settings: dict[str, Any] = json.loads(sys.argv[-1])
    job = os.path.dirname(os.environ["TASKAPI_JOB_SPEC"])
    out = os.path.join(job, "")
    harness.hold_report(out)
    code, told = 1, ""
    try:
        folder = os.path.join(job, "kernel")
        os.mkdir(folder, 0o700)
        kernel = Kernel(settings["kernel"], folder)
        harness.fault_point("notebook.kernel_started")
        _run(settings, job, kernel)
        code = 0
    except Failed as error:
        harness.report(out, error.marker, str(error))
        told = "" if error.logged else str(error)
        if error.number:
            _end_by(error.number)
    except OSError as error:  # no room, no descriptor
        told = f"its cells could not be run: {error.filename or 'a file'}: {error.strerror}"
        harness.report(out, "raised", told)
    except BaseException as error:
        harness.failed(out, error)
    if told:
        Log().line(f"taskapi: {told}")
    os._exit(code)  # nothing is left to be closed, and libraries take a while; the watcher ends what still runs


def _run(settings: dict[str, Any], job: str, kernel: Kernel) -> None:
    """Execute the cells; what that needs is imported while the kernel starts."""
    for name in UNUSED:
        sys.modules[name] = None  # type: ignore[assignment]
    import asyncio

    from .run import Run

    asyncio.run(Run(settings, job, kernel).run())


def _end_by(number: int) -> None:
    import resource
    import signal

    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # the kernel has left one, if any
    with suppress(OSError):  # that of SIGKILL can't be set
        signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
