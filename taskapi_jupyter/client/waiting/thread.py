"""The thread that waits for all that goes on behind cells: futures of executors, and what ``on_done`` is to call.

It looks again when a home's bell rings or, where no home is on this machine, when a server answers a request that it
holds. The thread is a daemon, and ends when there is nothing to wait for: jobs need no process of ours.
"""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from taskapi_jupyter.client import bell

if TYPE_CHECKING:
    from taskapi_jupyter.client.taskapi import TaskAPI

HOLD = 2.0  # seconds for which a server holds an answer: another watch may begin meanwhile
SHARE = 4  # looks take one in so many parts of the time at most, however much changes,
REST = 0.25  # unless that were more seconds
LINGER = 1.0  # seconds after which the thread ends where it has nothing to wait for


class Watch(Protocol):
    """What waits in one environment. The thread calls all of its methods."""

    @property
    def api(self) -> TaskAPI: ...
    @property
    def waits(self) -> bool:
        """False: there is nothing more to wait for, and the thread forgets it."""

    def step(self) -> None:
        """Read what has changed. It must not raise."""

    def hold(self, seconds: float) -> bool:
        """Have the server answer once something has changed; False where it can't, or has not."""


lock = threading.Lock()  # of watches too; another one in a forked child, so nobody keeps it
_watches: set[Watch] = set()
_thread: threading.Thread | None = None
_changed = threading.Event()


def begin(watch: Watch) -> None:
    """Have the thread wait for what a watch waits for, or look at it again at once."""
    global _thread  # noqa: PLW0603
    with lock:
        _watches.add(watch)
        if _thread is None:
            _thread = threading.Thread(target=_run, name="taskapi-waits", daemon=True)
            _thread.start()
    _changed.set()


def _run() -> None:
    """Wait, until there is nothing to wait for."""
    global _thread  # noqa: PLW0603
    listeners: dict[Path, bell.Listener] = {}
    idle_since: float | None = None
    try:
        while True:
            _changed.clear()
            with lock:
                for one in [one for one in _watches if not one.waits]:
                    _watches.discard(one)
                watches = list(_watches)
                idle_since = None if watches else idle_since or time.monotonic()
                if idle_since is not None and time.monotonic() - idle_since > LINGER:
                    _thread = None
                    return
            homes = {one.api.bell for one in watches if one.api.bell is not None}
            for home in homes - listeners.keys():
                listeners[home] = bell.Listener(home, _changed.set)
            began = time.monotonic()
            for one in watches:
                one.step()
            took = time.monotonic() - began
            _pause(watches, {home for home, listener in listeners.items() if listener.works})
            time.sleep(min(SHARE * took, REST))
    finally:
        for listener in listeners.values():
            listener.close()


def _pause(watches: list[Watch], heard: set[Path]) -> None:
    """Wait until something has changed, or may have."""
    deaf = [one for one in watches if one.api.bell not in heard]
    if not deaf:
        _changed.wait(bell.LOOK_AGAIN)
        return
    held = False
    for one in deaf:
        if one.api.bell is None and not _changed.is_set():
            held = one.hold(HOLD if len(watches) == 1 else deaf[0].api.poll_ceiling / len(deaf)) or held
    if not held:
        _changed.wait(min(one.api.poll_ceiling for one in deaf))


def _forget() -> None:
    """Begin anew in a forked child: the thread is its parent's."""
    global lock, _thread, _changed
    lock, _thread, _changed = threading.Lock(), None, threading.Event()
    _watches.clear()


os.register_at_fork(after_in_child=_forget)
