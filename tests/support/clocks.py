"""A wall clock that tests set, for a home's supervisor and all that it starts, by libfaketime."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from support import IMPORTS, until
from support.homes import supervisor_of

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))

#: For who lives by the clock: supervisors that they start have it, too; and this library breaks sleep().
BEGIN = """
import json, os, select, sys, time
from taskapi_jupyter.service.supervisor import wake
wake._KEPT += tuple(name for name in os.environ if "FAKE" in name or name == "LD_PRELOAD")
time.sleep = lambda seconds: select.select([], [], [], seconds)
"""

#: Somebody whose clock is the one that is set, and who does what they are told.
PERSON = """
from msgspec import to_builtins
from support import request_for
from taskapi_jupyter.core.contract import ScheduleRequest as Schedule
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.service.service import Service

s = Service(os.environ["TASKAPI_HOME"])
for line in sys.stdin:
    try:
        answer = {"ok": to_builtins(eval(json.loads(line)))}
    except TaskAPIError as error:
        answer = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(answer), flush=True)
"""


class Refused(Exception):
    """What somebody asked for was refused; says why."""


class Clock:
    """The clock, and a person who lives by it; what they say is evaluated with ``s``, a ``Service``."""

    def __init__(self, home: Path, folder: Path, at: str) -> None:
        self.home, self._file = home, folder / "clock"
        self.to(at)
        self.environ = {
            **{
                name: os.environ[name]
                for name in ("PATH", "HOME", "TASKAPI_FAULTS", "PYTHONPATH")
                if name in os.environ
            },
            "TASKAPI_HOME": str(home),
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
            "TZ": "UTC",
        }
        self._process = self.start(PERSON)

    def start(self, code: str) -> subprocess.Popen[str]:
        """Start a program that lives by the clock."""
        pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", IMPORTS + BEGIN + code], env=self.environ, text=True, **pipes)

    def say(self, text: str) -> Any:
        """Have the person do something; return the answer as JSON has it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(text) + "\n")
        self._process.stdin.flush()
        answer = json.loads(self._process.stdout.readline())
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def to(self, text: str) -> None:
        """Set the clock to a time, in UTC unless it says otherwise."""
        moment = datetime.fromisoformat(text)
        self._write(moment.replace(tzinfo=moment.tzinfo or timezone.utc).timestamp() - time.time())

    def forward(self, seconds: float) -> None:
        """Set it forward, or back."""
        self._write(self._off + seconds)

    def _write(self, off: float) -> None:
        self._off = off
        other = self._file.with_suffix(".new")
        other.write_text(f"{off:+.3f}\n")
        other.rename(self._file)

    def set(self, text: str) -> None:
        """Set the clock, and have the supervisor look at it, which it does every few seconds by itself."""
        self.to(text)
        self.wake()

    def wake(self) -> None:
        """Have the supervisor look."""
        self.say("s.waker.wake()")

    def jobs(self, schedule: str = "echo") -> list[dict[str, Any]]:
        """Return the jobs of a schedule, newest first."""
        return list(self.say(f"[job.record for job in s.page(schedule={schedule!r}, limit=1000)]"))

    def times(self, schedule: str = "echo") -> list[str]:
        """Return for when the jobs of a schedule were scheduled, first one first."""
        return sorted(job["scheduled_time"] for job in self.jobs(schedule))

    def status(self, schedule: str = "echo") -> dict[str, Any]:
        """Return a schedule."""
        return dict(self.say(f"s.schedule_status({schedule!r})"))

    def until(self, condition: Callable[[], Any], what: str) -> Any:
        """Wait for a condition."""
        return until(condition, what)

    def close(self) -> None:
        """Delete the schedules, and end who was started."""
        with suppress(Refused, ValueError, OSError):
            self.say("[s.delete_schedule(one.name) for one in s.schedules_response().schedules]")
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(10)
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def signal_supervisor(self, number: int) -> None:
        """Send the supervisor a signal."""
        os.kill(supervisor_of(self.home), number)

    def asleep_until(self, text: str) -> None:
        """Have the machine sleep until a time."""
        until(lambda: self.say("s.waker.alive()"), "the supervisor to be there")
        self.signal_supervisor(signal.SIGSTOP)
        self.to(text)
        self.signal_supervisor(signal.SIGCONT)
        self.wake()
