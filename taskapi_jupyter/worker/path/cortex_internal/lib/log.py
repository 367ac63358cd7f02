"""Cortex's logger for tasks: lines of JSON on standard output, what ``extra`` has beside the message."""

import json
import logging
import os
import sys

_STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"asctime", "message", "taskName"}
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


class JSONFormatter(logging.Formatter):
    """Formats a record as one line of JSON."""

    def format(self, record):
        """Return the line; what JSON has no form for becomes text."""
        line = {
            "asctime": self.formatTime(record),
            "levelname": record.levelname,
            "message": record.getMessage(),
            "process": record.process,
        }
        line.update((key, value) for key, value in record.__dict__.items() if key not in _STANDARD)
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = self.formatStack(record.stack_info)
        return json.dumps({str(key): _plain(value) for key, value in line.items()})


class StdoutHandler(logging.StreamHandler):
    """Writes to what ``sys.stdout`` is at that moment."""

    def __init__(self):
        """Leave the stream open to be looked up."""
        logging.Handler.__init__(self)

    @property
    def stream(self):
        """Return the present standard output."""
        return sys.stdout


def _plain(value):
    try:
        return json.loads(json.dumps(value, default=str, allow_nan=False))
    except (TypeError, ValueError, RecursionError):  # NaN, keys that are no text, a value within itself
        return str(value)


def _make():
    made = logging.getLogger("cortex")
    made.setLevel(_LEVELS.get(os.environ.get("CORTEX_LOG_LEVEL", "").lower(), logging.INFO))
    made.propagate = False
    if not any(isinstance(handler, StdoutHandler) for handler in made.handlers):
        handler = StdoutHandler()
        handler.setFormatter(JSONFormatter())
        made.addHandler(handler)
    return made


logger = _make()
