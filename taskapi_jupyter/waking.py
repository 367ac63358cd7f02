"""How a supervisor is woken, started and replaced: by the service, by a watcher that ends, by a newer package.

Whoever has written a wish first tries the FIFO ``wake``: a supervisor that has it open will look at the store. Where
nobody has, a new one is started, which waits for the lock of one that is leaving, or leaves to one that is not.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import signal
import stat
import sys
import time
from _thread import allocate_lock
from collections.abc import Callable
from typing import TYPE_CHECKING

from . import machine, plainfile
from ._version import __version__

if TYPE_CHECKING:
    import subprocess


#: What a supervisor keeps of the variables of whoever starts it.
_KEPT = ("PATH", "HOME", "TZ", "LANG", "TASKAPI_FAULTS")


def wake(home: str) -> None:
    """Tell the supervisor to look at the store, and start one where none lives."""
    if not poke(home):
        start(home)


def poke(home: str, data: bytes = b"w") -> bool:
    """Write to the FIFO; return whether a supervisor has it open. With no data, only ask."""
    try:
        fd = os.open(os.path.join(home, "wake"), os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENXIO, errno.ENOENT):
            return False
        raise
    try:
        if not stat.S_ISFIFO(os.fstat(fd).st_mode):  # what a copy of a home may have there; a supervisor replaces it
            return False
        os.write(fd, data)
    except BlockingIOError:
        pass  # it has wakeups enough to come
    except BrokenPipeError:
        return False  # it closed it just now: it is leaving
    finally:
        os.close(fd)
    return True


def start(home: str) -> subprocess.Popen[bytes]:
    """Start a supervisor in a session of its own; it inherits no descriptor and no secret of this process."""
    import subprocess

    code = "import sys; sys.path.append(sys.argv[1]); from taskapi_jupyter.supervisor import main; main(sys.argv[2])"
    flags = ["-I", "-S"] if machine.LINUX else ["-I"]  # off Linux psutil is needed, which site makes importable
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    log = plainfile.create(os.path.join(home, "supervisor.log"), os.O_WRONLY | os.O_APPEND)
    try:
        return subprocess.Popen(
            [sys.executable, *flags, "-c", code, package, home],
            env={name: os.environ[name] for name in _KEPT if name in os.environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


def acquire(home: str) -> int | None:
    """Return the locked descriptor of ``supervisor.lock``, None where another supervisor takes care of the store."""
    fd = plainfile.create(os.path.join(home, "supervisor.lock"), os.O_RDWR)
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            # Either it has its FIFO open, and looks at the store again; or it is coming or leaving: wait for the lock.
            if poke(home):
                os.close(fd)
                return None
            time.sleep(0.005)
            continue
        me = {**machine.identity(os.getpid()), "version": __version__}
        os.ftruncate(fd, 0)
        os.pwrite(fd, json.dumps(me).encode(), 0)
        return fd


class Waker:
    """Wakes the supervisor of a home, from any thread; leaves no zombie of one that it started."""

    def __init__(self, home: str) -> None:
        self.home = home
        self._lock = allocate_lock()
        self._started: subprocess.Popen[bytes] | None = None
        self._seeing = False

    def alive(self) -> bool:
        """Say whether a supervisor has its FIFO open."""
        return poke(self.home, b"")

    def wake(self) -> None:
        """Have the store looked at: by the supervisor that lives, or by one that is started.

        One that this process started before, and that has no FIFO yet, looks at the store after it got the lock, or
        leaves to one that does; whether that was before what is to be seen was written, a thread makes sure of.
        """
        if poke(self.home):
            return
        with self._lock:
            if self._start_one() or self._seeing:
                return
            self._seeing = True
        _thread_of(self._see)

    def _start_one(self) -> bool:
        """Start a supervisor unless one that this process started lives; say whether nothing more is to be done."""
        if os.environ.get("TASKAPI_JOB_SPEC", "").startswith(os.path.join(self.home, "jobs", "")):
            return True  # in a task: one started here would be stopped with it; its watcher starts one
        if self._started is not None and self._started.poll() is None:
            return False
        self._started = start(self.home)
        _thread_of(self._started.wait)  # leaves no zombie
        return True

    def _see(self) -> None:
        """Wait until the one that was started has its FIFO open, or start another where it is gone."""
        while True:
            with self._lock:
                if poke(self.home) or self._start_one():
                    self._seeing = False
                    return
            time.sleep(0.01)

    def replace_older(self) -> None:
        """Have a supervisor of an older package leave; its jobs run on and the next one adopts them."""
        try:
            with open(os.path.join(self.home, "supervisor.lock"), "rb") as file:
                holder = json.loads(file.read())
            if holder["version"] == __version__:
                return
            from packaging.version import InvalidVersion, Version

            try:
                if Version(holder["version"]) > Version(__version__):
                    return
            except InvalidVersion:
                return
            if self.alive() and machine.is_there(holder):
                machine.send(holder["pid"], holder["start_time"], signal.SIGTERM)
                for _ in range(1000):  # while it has its FIFO, a wakeup would go to it
                    if not self.alive():
                        self.wake()
                        break
                    time.sleep(0.005)
        except (OSError, ValueError, KeyError, TypeError):
            return  # nobody there, or somebody who is just coming


def _thread_of(function: Callable[[], object]) -> None:
    import threading  # not above: it would make each fork of the supervisor twice as slow

    threading.Thread(target=function, daemon=True).start()
