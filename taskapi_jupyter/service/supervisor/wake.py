"""How a supervisor is woken, started and replaced: by the service, by a watcher that ends, by a newer package.

A process that has written a request into the store writes to the FIFO ``wake`` next: a supervisor that has it open then
reads the store. Where none has, the process starts one, which waits for the lock of one that is leaving, or exits where
another is at work.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from _thread import allocate_lock
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import files, guard, host, process, room
from taskapi_jupyter.core.paths import PACKAGE, HomePaths
from taskapi_jupyter.runner import reaping
from taskapi_jupyter.service import engine_settings

from . import succession
from .fifo import poke
from .lock import holder, nudge, refuse_others

if TYPE_CHECKING:
    import subprocess

#: Environment variables that a supervisor gets from the process that starts it.
_KEPT = ("PATH", "HOME", "TZ", "LANG", "TASKAPI_FAULTS")
_MOST_NAMES = 1 << 14  # bytes of the names of further ones


def wake(home: str) -> None:
    """Have the supervisor read the store; start one where none is alive."""
    if not poke(home):
        start(home)


def command(module: str, home: str, *, site: bool = False) -> list[str]:
    """Return the command that runs ``main(home)`` of one of our modules, with little imported.

    With ``site`` it may import what is installed, for the user alone, too.
    """
    code = f"import sys; sys.path.append(sys.argv[1]); from taskapi_jupyter.{module} import main; main(sys.argv[2])"
    flags = ["-I", "-S"] if host.LINUX else ["-I"]  # off Linux psutil is needed, which site makes importable
    if site:
        code, flags = f"import sys; del sys.path[0]; {code}", ["-E"]
    return [sys.executable, *flags, "-c", code, os.path.dirname(PACKAGE), home]


def _environ(home: str) -> dict[str, str]:
    """Return the variables that a supervisor gets: few, and those that config.yaml reads notifications from."""
    names = list(_KEPT)
    with suppress(OSError, ValueError), open(files.open_plain(HomePaths(home).variables), "rb") as file:
        if os.fstat(file.fileno()).st_uid == os.geteuid():
            names += file.read(_MOST_NAMES).decode("ascii").split()
    return {name: os.environ[name] for name in names if name in os.environ}


def start(home: str) -> subprocess.Popen[bytes]:
    """Start a supervisor in a session of its own; it inherits no descriptor of this process, and few variables."""
    import subprocess

    try:
        log = files.create(HomePaths(home).log, os.O_WRONLY | os.O_APPEND)
    except OSError:  # a full disk: what it says is lost, what it does is not
        log = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        return subprocess.Popen(
            command("service.supervisor.supervisor", home),
            env=_environ(home),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=log,
            cwd="/",
            start_new_session=True,
        )
    finally:
        os.close(log)


class Waker:
    """Wakes the supervisor of a home, from any thread; leaves no zombie of one that it started."""

    def __init__(self, home: str) -> None:
        self.home = home
        self._lock = allocate_lock()
        self._started: subprocess.Popen[bytes] | None = None
        self._seeing = False
        self._seen: tuple[int, int] | None = None  # the record that was found to be this host's
        reaping.begin()

    def check(self) -> None:
        """Raise :class:`Unavailable` where another host or user uses this home; takes a stat or two, as a rule."""
        guard.check(self.home)
        try:
            found = os.lstat(HomePaths(self.home).lock)
            seen = (found.st_ino, found.st_mtime_ns)
        except OSError:
            seen = None
        if seen is None or seen != self._seen:
            try:
                refuse_others(self.home)
            except OSError as error:
                raise room.cannot_write(self.home, error) from None
            self._seen = seen

    def check_place(self) -> None:
        """Raise :class:`Unavailable` also where a supervisor could not work; called before a job is accepted."""
        guard.check_place(self.home)
        engine_settings.read(self.home)
        if not self.alive():
            guard.check(self.home, again=True)  # as the one that is to be started will
        self.check()

    def alive(self) -> bool:
        """Whether a supervisor has its FIFO open; True also where there is no descriptor left to find out."""
        try:
            return poke(self.home, b"")
        except OSError as error:
            if error.errno in files.NO_DESCRIPTOR:
                return True
            raise

    def tell(self) -> None:
        """Have a supervisor read the store if one is alive."""
        with suppress(OSError):
            poke(self.home)

    def wake(self) -> None:
        """Have a supervisor read the store: the one that is alive, or one that is started.

        One that this process started earlier, and that has no FIFO yet, reads the store once it has the lock. Whether
        it does so after the caller's write is not known, so a thread waits for its FIFO and writes to it.
        """
        with suppress(OSError):  # without a descriptor it is not known
            if poke(self.home):
                return
        with self._lock:
            if self._seeing:
                return
            try:
                if self._start_one():
                    return
            except OSError:  # the limit of processes is reached: the request is on disk and is read later
                pass
            self._seeing = True
        _thread_of(self._see)

    def _start_one(self) -> bool:
        """Start a supervisor unless one that this process started is alive; return whether nothing is left to do."""
        if os.environ.get("TASKAPI_JOB_SPEC", "").startswith(os.path.join(self.home, "jobs", "")):
            return True  # in a task: one started here would be stopped with it; its watcher starts one
        if self._started is not None and self._started.poll() is None:
            nudge(holder(self.home))
            return False
        self._started = start(self.home)
        _thread_of(self._started.wait)  # leaves no zombie
        return True

    def _see(self) -> None:
        """Wait until the one that was started has its FIFO open, or start another where it is gone."""
        pause = 0.01
        while True:
            with self._lock:
                try:
                    if poke(self.home) or self._start_one():
                        self._seeing = False
                        return
                except OSError:  # as many processes or descriptors as there may be
                    pause = 1.0
            time.sleep(pause)

    def replace_older(self) -> None:
        """Have a supervisor of an older package leave, or become one of this package where its jobs run.

        One that is older than 0.3.0 leaves in either case; its jobs run on, and the next one adopts them.
        """
        try:
            older = self._older()
            if older is None or not self.alive() or not process.is_there(older):
                return
            succession.propose(self.home, older, command("service.supervisor.supervisor", self.home))
            process.send(older["pid"], older["start_time"], signal.SIGTERM)
            for _ in range(1000):  # while it has its FIFO, a wakeup would go to it
                if not self.alive():
                    self.wake()
                    break
                if self._older() is None:
                    break
                time.sleep(0.005)
        except (OSError, ValueError, KeyError, TypeError):
            return  # nobody there, or somebody who is just coming

    def _older(self) -> dict[str, Any] | None:
        """Return the record of the supervisor where an older package wrote it."""
        record = holder(self.home)
        if record["version"] == __version__:
            return None
        from packaging.version import InvalidVersion, Version

        try:
            return record if Version(record["version"]) < Version(__version__) else None
        except InvalidVersion:
            return None


def _thread_of(function: Callable[[], object]) -> None:
    import threading  # not above: it would make each fork of the supervisor twice as slow

    threading.Thread(target=function, daemon=True).start()
