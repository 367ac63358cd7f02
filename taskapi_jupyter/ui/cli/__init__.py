# PYTHON_ARGCOMPLETE_OK
"""``jupyter taskapi``: the verbs for a terminal, with the arguments of Cortex's own program where it has the verb."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from contextlib import suppress

from taskapi_jupyter.client.job_lookup import Unclear
from taskapi_jupyter.core.errors import NotKept, TaskAPIError

from .arguments import parser
from .output import show_json, tell

USAGE = 2
INTERRUPTED = 130
BROKEN_PIPE = 141


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return 0 for success, 1 for failure, 2 for arguments that can't be understood."""
    if "_ARGCOMPLETE" in os.environ:
        from . import completion

        completion.complete(parser())
    if not sys.warnoptions:
        warnings.simplefilter("ignore")  # they are meant for developers
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError):  # something else may have been put in its place
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    options = parser().parse_args(arguments)
    try:
        code = int(options.run(options) or 0)
        sys.stdout.flush()
        return code
    except Unclear as error:
        return _complain(str(error), USAGE)
    except NotKept as note:  # this environment does not keep it, which is not a failure
        if options.output == "json":
            show_json(None)
        return _complain(str(note), 0)
    except (TaskAPIError, TimeoutError) as error:
        return _complain(str(error), 1)
    except BrokenPipeError:  # as of `… | head`: ends quietly
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:
        from taskapi_jupyter.core import room

        told = room.as_told(error)
        if told is None:
            raise
        return _complain(str(told), 1)
    except KeyboardInterrupt:
        return _complain("interrupted; jobs go on", INTERRUPTED)


def _complain(message: str, code: int) -> int:
    tell(message)
    return code
