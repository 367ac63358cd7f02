"""What is written down of a job's end: its status, the reason, the exit code. Standard library only."""

from __future__ import annotations

import errno
import json
import os
import signal
from collections.abc import Mapping
from typing import Any

from taskapi_jupyter.core import files, host, nesting, room
from taskapi_jupyter.core.errors import size
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import JobPaths
from taskapi_jupyter.core.states import JobCode, may_move

from .log_file import read as read_log

SHARED = "/dev/shm"  # where Linux keeps shared memory; a container has 64 MiB of it unless it is given more

TERMINATED = "terminated"  # what the harness reports of a task that left because of a TERM


def read_outcome(folder: str) -> dict[str, Any] | None:
    """Return the outcome that a watcher wrote, None where there is none that is whole."""
    try:
        found = nesting.loads(files.read(JobPaths(folder).outcome, 1 << 20))
        legal = may_move(JobCode.RUNNING, JobCode(found["status"])) and isinstance(found["ended"], int)
        return dict(found) if legal else None
    except OSError as error:
        if error.errno in files.NO_DESCRIPTOR:  # whether there is one is not known
            raise
        return None
    except (ValueError, KeyError, TypeError):
        return None


def write_outcome(folder: str, found: Mapping[str, Any]) -> None:
    """Write how a job ended, whole or not at all, over the task's report, which was read: a full disk has room there.

    Not synced: within a boot that changes nothing. A job that ran when the power failed ends ``unexpected_error``,
    whether or not its outcome was on disk.
    """
    data, paths = json.dumps(found).encode(), JobPaths(folder)
    try:
        files.write(paths.report, data, over=True)
    except OSError:  # the task removed it, or put something else there, and the disk has no room for a new one
        files.write_atomic(paths.outcome, data, sync=False)
    else:
        fault_point("watcher.outcome_temporary")
        os.rename(paths.report, paths.outcome)


def columns(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the columns of a job's row that an outcome sets, its status aside."""
    return {
        "ended": found["ended"],
        "reason": found.get("reason"),
        "exit_code": found.get("exit_code"),
        **{name: json_object(found.get(name)) for name in ("progress", "metrics", "usage")},
    }


def json_object(text: Any) -> str | None:
    """Return the text of a JSON object, None for any other: a task may have written anything."""
    try:
        return text if isinstance(text, str) and isinstance(nesting.loads(text), dict) else None
    except ValueError:
        return None


def outcome(
    status: JobCode,
    reason: str | None = None,
    exit_code: int | None = None,
    *,
    progress: str | None = None,
    metrics: str | None = None,
    usage: str | None = None,
) -> dict[str, Any]:
    """Return how a job ended, just now; progress, metrics and usage are JSON objects, as text."""
    return {
        "status": status.value,
        "reason": reason,
        "exit_code": exit_code,
        "ended": host.now_us(),
        "progress": progress,
        "metrics": metrics,
        "usage": usage,
    }


def vanished(reason: str) -> dict[str, Any]:
    """Return the outcome of a job that nobody saw end, or that could not be started."""
    return outcome(JobCode.UNEXPECTED_ERROR, reason)


def too_late(job: Mapping[str, Any]) -> str:
    """Return the reason of a job whose ``timeout`` has passed."""
    since = "submission" if job.get("allowed") is None else "what it waited for had ended"
    return f"timed out {job['timeout']} s after {since}"


def judge(folder: str, said: tuple[str, str], code: int, *, command: bool, oom: bool) -> tuple[JobCode, str]:
    """Return the status and the reason of a task that ended by itself with an exit code, or by a signal (negative).

    ``said`` is what it :func:`reported`; ``command``: it is a command, which returns nothing; ``oom``: the kernel
    killed it for want of memory.
    """
    marker, told = said
    if marker == "memory":
        return JobCode.WORKER_OOM, told
    if marker == "unstartable":  # a notebook's kernel is not there
        return JobCode.UNEXPECTED_ERROR, told
    where = f"{told}: " if marker == "died" else ""  # with its kernel, in a cell
    if code == 0:
        if command or marker == "returned" or _has_result(folder):
            return JobCode.SUCCEEDED, told
        found = room.obstacle(folder)
        if found is not None and found.errno == errno.EROFS:  # neither a result nor a report could be written
            return JobCode.WORKER_ERROR, f"its process left with exit code 0 and no result: {found.strerror}"
        return JobCode.WORKER_ERROR, "its process left with exit code 0 before the task returned"
    if code == -signal.SIGKILL and oom:
        return JobCode.WORKER_OOM, f"{where}killed by the kernel for want of memory"
    if code < 0:
        return JobCode.WORKER_ERROR, f"{where}killed by signal {-code} ({_signal_name(-code)}){_bus_hint(-code)}"
    if marker == "unready":
        return JobCode.WORKER_ERROR, ": ".join(part for part in (told, _last_lines(folder)) if part)
    last = told or _last_traceback_line(folder)
    if command and last.partition(":")[0].endswith("MemoryError"):  # numpy has one of its own
        return JobCode.WORKER_OOM, last
    return JobCode.WORKER_ERROR, last or f"exit code {code}{_bus_hint(code - 128)}"  # 128 more is a shell's way


def reported(folder: str) -> tuple[str, str]:
    """Return what the task's process reported of its end: a marker, and a text."""
    marker, _, told = (text_of(folder, "report") or "").rstrip("\n").partition("\n")
    return marker, told


def text_of(folder: str, name: str) -> str | None:
    """Return the text of a small file in a job's folder, None where it can't be read."""
    try:
        return files.read(os.path.join(folder, name), 1 << 16).decode("utf-8", "replace")
    except OSError:
        return None


def _has_result(folder: str) -> bool:
    return any(os.path.exists(os.path.join(folder, f"result.{kind}")) for kind in ("json", "pkl"))


def _last_traceback_line(folder: str) -> str:
    """Return the line that a command's traceback ended with, where its output ends with one."""
    lines = read_log(folder, -8192)[0].decode("utf-8", "replace").rstrip().splitlines()
    for line in reversed(lines):
        if line.startswith("Traceback (most recent call last)"):
            return lines[-1]
        if line == lines[-1] and line.startswith(" "):
            break
    return ""


def _last_lines(folder: str) -> str:
    """Return the last three lines of a job's output as one."""
    lines = read_log(folder, -4096)[0].decode("utf-8", "replace").split("\n")
    return " | ".join(
        [" ".join(line.split()) for line in lines if line.strip() and not line.startswith("taskapi: ")][-3:]
    )


def _bus_hint(number: int) -> str:
    """Return the usual cause of SIGBUS, no room for shared memory, as a text to append; '' for other signals."""
    if number != signal.SIGBUS:
        return ""
    try:
        there = os.statvfs(SHARED)
    except OSError:
        return ": a mapped file was cut short, or had no room"
    whole, free = there.f_blocks * there.f_frsize, there.f_bavail * there.f_frsize
    if free < whole // 20:
        return f": {SHARED}, where shared memory is, is full ({size(whole)}): remove what is left in it, or enlarge it"
    return f": shared memory found no room in {SHARED} ({size(whole)}), or a mapped file was cut short"


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
