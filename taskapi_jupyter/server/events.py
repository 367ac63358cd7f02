"""Jupyter events for changes of jobs and APIs of this machine, whichever process made them.

One thread looks at the store's change counter when the home's bell rings, on a connection of its own, and has the event
loop tell what is new.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.client.bell import Listener
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.service.store.readable import fault
from taskapi_jupyter.service.store.store import Store

if TYPE_CHECKING:
    from logging import Logger

    from jupyter_events import EventLogger

JOB = "https://events.jupyter.org/taskapi_jupyter/job/v1"
API = "https://events.jupyter.org/taskapi_jupyter/api/v1"

POLL_INTERVAL = 0.1  # seconds, where no bell can be heard
LOOK_AGAIN = 1.0  # seconds after which we look where none was heard: a ring may be lost
PATIENCE = 1.0  # seconds to wait for one that is locked

News = tuple[str, dict[str, str]]  # schema and data of one event


class Events:
    """Emits an event for each change in one database, from its start on."""

    def __init__(self, path: Path, logger: EventLogger, log: Logger, try_again: float = 1.0) -> None:
        self._path = path
        self._logger = logger
        self._log = log
        self.try_again = try_again  # seconds until a database that could not be read is tried again
        self._stopping, self._changed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskapi-events", daemon=True)
        self._seen: int | None = None  # the counter up to which all events were emitted
        self._apis: Mapping[str, int] = {}
        for name in ("job", "api"):
            logger.register_event_schema(Path(__file__).parent / "event_schemas" / f"{name}.yaml")

    def start(self) -> None:
        """Begin; earlier changes are not emitted."""
        self._loop = asyncio.get_running_loop()
        self._thread.start()

    async def stop(self) -> None:
        """End the thread."""
        self._stopping.set()
        self._changed.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 2 * PATIENCE)

    def _run(self) -> None:
        said = ""
        while not self._stopping.is_set():
            try:
                with (
                    closing(Store(self._path, patience=PATIENCE)) as store,
                    Listener(self._path.parent, self._changed.set) as listener,
                ):
                    while not self._stopping.is_set():
                        self._poll(store)
                        said = ""
                        self._changed.wait(LOOK_AGAIN if listener.works else POLL_INTERVAL)
                        self._changed.clear()
            except (sqlite3.Error, OSError, TaskAPIError) as error:
                if str(error) != said:
                    said = str(error)
                    self._log.warning("changes of jobs can't be seen: %s", said)
                self._stopping.wait(self.try_again)
            except RuntimeError:  # the event loop has ended
                return

    def _poll(self, store: Store) -> None:
        """Emit what is new."""
        counter = store.counter()
        if counter == self._seen:
            return
        if self._seen is None or counter < self._seen:  # at the beginning, or where another database took its place
            self._seen, self._apis = counter, store.deployed()
            return
        rows, apis = store.news(self._seen), store.deployed()
        news: list[News] = [(API, {"api_name": name, "status": "deleted"}) for name in self._apis.keys() - apis]
        news += [
            (API, {"api_name": name, "status": "deployed"})
            for name, change in apis.items()
            if self._apis.get(name) != change
        ]
        news += [
            (JOB, {"job_id": row["id"], "api_name": row["api_name"], "status": row["status"]})
            for row in rows
            if not fault({"id": row["id"], "api_name": row["api_name"]})
            and (row["status"] == "deleted" or not fault({"status": row["status"]}))
        ]
        # Waiting for it paces this thread; what changes meanwhile is emitted in its latest state.
        asyncio.run_coroutine_threadsafe(self._tell(news), self._loop).result()
        self._seen = max([counter, *(row["change"] for row in rows if isinstance(row["change"], int))])
        self._apis = apis

    async def _tell(self, news: list[News]) -> None:
        for schema, data in news:
            if self._stopping.is_set():
                return
            self._emit(schema, data)
            await asyncio.sleep(0)  # each listener has a task of its own now: others have their turn between two events

    def _emit(self, schema: str, data: dict[str, Any]) -> None:
        try:
            self._logger.emit(schema_id=schema, data=data)
        except Exception:  # whatever somebody's handler or modifier raises
            self._log.exception("an event could not be emitted")
