"""Which GPUs there are, and which of them a job may have. Standard library only.

A GPU is known by its number in ``nvidia-smi -L``; only a task is given the name that its submitter's
``CUDA_VISIBLE_DEVICES`` has for it. ``nvidia-smi`` may take long, or hang with its driver: it runs once for all
processes of a home, where an API asks for a GPU, and a file keeps its answer. Where it does not answer, the last answer
stays.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Any, NamedTuple

from taskapi_jupyter.core import files, host, nesting
from taskapi_jupyter.core.paths import HomePaths

VARIABLE = "CUDA_VISIBLE_DEVICES"

_PATIENCE = 3.0  # seconds for an answer
_HOLDS = 600.0  # seconds after which one is asked for again
_ASK_AGAIN = 30.0  # seconds, where there was none
_MOST = 1 << 20  # bytes of an answer
_MIG = 1000  # times a GPU's number, from 1 on, is the first number of its MIG devices

_GPU = re.compile(r"GPU (\d{1,3}): .*\(UUID: (GPU-[\w./-]+)\)\s*")
_PART = re.compile(r"\s+MIG .*\(UUID: (MIG-[\w./-]+)\)\s*")

Devices = dict[int, str]  #: ids by number
Choice = tuple[int, str]  #: a number, and what the task is given for it


class Known(NamedTuple):
    """What is known of this machine's GPUs."""

    devices: Devices | None  # None: not known
    why: str  # what was wrong when they were asked for last; '' where nothing was
    is_due: bool  # whether to ask again


def visible(text: str | None, known: Devices | None, limit: int | None) -> list[Choice] | None:
    """Return the devices that a job may have, in the order of the list; None where they are not known.

    ``text`` is the list in ``CUDA_VISIBLE_DEVICES``. None is no list: all devices, or the first ``limit`` of them. As
    in CUDA, the list ends at an entry that is no device; a device that is listed twice counts once.
    """
    if text is None:
        whole = [number for number in sorted(known or ()) if number < _MIG]
        numbers = whole if limit is None and known is not None else list(range(limit)) if limit is not None else None
        return None if numbers is None else [(number, str(number)) for number in numbers]
    found: dict[int, str] = {}
    for entry in (part.strip() for part in text.split(",")):
        if re.fullmatch(r"[0-9]{1,3}", entry):
            number: int | None = int(entry)
            if known is not None and number not in known:
                break
        elif not entry.startswith(("GPU-", "MIG-")):
            break
        elif known is None:
            return None
        else:  # CUDA takes the beginning of an id, where it is that of one device
            number = next((one for one, id_ in known.items() if id_ == entry), None)
            near = [one for one, id_ in known.items() if id_.startswith(entry)]
            number = near[0] if number is None and len(near) == 1 else number
        if number is None:
            break
        found.setdefault(number, entry)
    return list(found.items())


def most(text: str | None) -> int | None:
    """Return how many GPUs a list names at most, on any machine; None where there is no list."""
    if text is None:
        return None
    entries: list[str] = []
    for entry in (part.strip() for part in text.split(",")):
        if not re.fullmatch(r"[0-9]{1,3}|(GPU|MIG)-.+", entry):
            break
        entries.append(entry)
    return len(set(entries))


def pick(choices: Collection[Choice], held: Collection[int], count: int) -> list[Choice] | None:
    """Return the first ``count`` of the devices that are not held; None where they are not so many.

    A GPU and a MIG device of it exclude each other.
    """
    picked: list[Choice] = []
    for number, text in choices:
        if len(picked) == count:
            break
        if not any(_overlap(number, other) for other in (*held, *(one for one, _ in picked))):
            picked.append((number, text))
    return picked if len(picked) == count else None


def _overlap(one: int, other: int) -> bool:
    return one == other or (_gpu_of(one) == _gpu_of(other) and min(one, other) < _MIG)


def _gpu_of(number: int) -> int:
    return number if number < _MIG else number // _MIG - 1


def count(devices: Devices) -> int:
    """Return how many GPUs there are, MIG devices aside."""
    return sum(number < _MIG for number in devices)


def numbers(text: str | None) -> list[int]:
    """Return the numbers that a job's row has."""
    return [int(one) for one in (text or "").split(",") if one.isdigit()]


def are_hidden(count: int | None) -> bool:
    """Whether a task that asks for no GPU is to see none; where it is not known how many there are, by their driver."""
    return os.path.exists("/dev/nvidia0") if count is None else count > 0


# What there is


def known(home: str) -> Known:
    """Return what a home knows; nothing is asked."""
    try:
        return _read(files.read(HomePaths(home).gpus, _MOST))
    except OSError:
        return Known(None, "they were not asked for yet", True)


def learn(home: str) -> Known:
    """Return what a home knows, having asked where that is due; takes a few seconds at most.

    Processes that ask at once wait for one of them.
    """
    there = known(home)
    if not there.is_due:
        return there
    try:
        fd = files.create(HomePaths(home).gpus, os.O_RDWR)
    except OSError:  # no room: the answer is ours alone
        devices, why = ask()
        return Known(devices or there.devices, why, True)
    try:
        _lock(fd)
        there = _read(os.pread(fd, _MOST, 0))
        if not there.is_due:
            return there
        devices, why = ask()
        there = Known(there.devices if devices is None else devices, why, False)
        record = {"devices": there.devices, "why": why, "at": host.boottime(), "boot": host.boot_id()}
        with suppress(OSError):
            data = json.dumps(record).encode()
            os.pwrite(fd, data.ljust(os.fstat(fd).st_size), 0)  # over what is there: a full disk takes no new file
            os.ftruncate(fd, len(data))
        return there
    finally:
        os.close(fd)


def main(home: str) -> None:
    """Ask, for a supervisor that must not wait."""
    learn(home)


def _lock(fd: int) -> None:
    until = time.monotonic() + 2 * _PATIENCE
    while time.monotonic() < until:  # who holds it may have been stopped
        with suppress(BlockingIOError):
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        time.sleep(0.02)
    return None


def _read(data: bytes) -> Known:
    try:
        record: dict[str, Any] = nesting.loads(data)
        devices = record["devices"]
        if devices is not None:
            devices = {int(number): str(id_) for number, id_ in devices.items()}
        age = host.boottime() - float(record["at"])
        is_due = record["boot"] != host.boot_id() or not 0 <= age < (_ASK_AGAIN if record["why"] else _HOLDS)
        return Known(devices, str(record["why"]), is_due)
    except (ValueError, KeyError, TypeError, AttributeError):
        return Known(None, "they were not asked for yet", True)


def ask(patience: float = _PATIENCE) -> tuple[Devices | None, str]:
    """Ask ``nvidia-smi``; return the devices, None and why where they are not known.

    It is killed with its children when its time is over.
    """
    import shutil
    import subprocess

    program = shutil.which("nvidia-smi")
    if program is None:
        return None, "there is no nvidia-smi"
    deadline = time.monotonic() + patience
    try:
        process = subprocess.Popen(
            [program, "-L"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:
        return None, f"nvidia-smi can't be run: {error.strerror}"
    assert process.stdout is not None
    try:
        said, is_whole = _read_until(process.stdout.fileno(), deadline)
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(deadline - time.monotonic(), 0.01))
    finally:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        timed_out = process.returncode is None
        with suppress(subprocess.TimeoutExpired):  # one that waits for its driver dies when that lets it
            process.wait(0.2)
    if timed_out or not is_whole:
        return None, f"nvidia-smi did not answer within {patience:g} s"
    return _devices(said.decode("utf-8", "replace"), process.returncode)


def _read_until(fd: int, deadline: float) -> tuple[bytes, bool]:
    """Read until the end or a deadline; return what there was, and whether it was all."""
    import select

    said = b""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    while len(said) < _MOST and (left := deadline - time.monotonic()) > 0:
        if poll.poll(left * 1000):
            piece = os.read(fd, 1 << 16)
            if not piece:
                return said, True
            said += piece
    return said, False


def _devices(text: str, code: int) -> tuple[Devices | None, str]:
    found: Devices = {}
    gpu, parts = -1, 0
    for line in text.splitlines():
        if match := _GPU.fullmatch(line):
            gpu, parts = int(match[1]), 0
            found[gpu] = match[2]
        elif (match := _PART.fullmatch(line)) and gpu >= 0:
            found[_MIG * (gpu + 1) + parts] = match[1]
            parts += 1
    if found and code == 0:
        return found, ""
    if text.strip().lower().startswith("no devices"):
        return {}, ""
    return None, f"nvidia-smi ended with exit code {code}" if code else "nvidia-smi said nothing that is known of it"
