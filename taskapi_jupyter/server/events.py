"""Changes of jobs and APIs in a home, whichever process made them: they wake held requests and become Jupyter events.

One thread looks at the store's change counter when the home's bell rings, on a connection of its own, and has the event
loop tell what is new.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.client.bell import LOOK_AGAIN, Listener
from taskapi_jupyter.core.errors import TaskAPIError
from taskapi_jupyter.service.store.readable import fault
from taskapi_jupyter.service.store.store import Store

if TYPE_CHECKING:
    from logging import Logger

    from jupyter_events import EventLogger

    from taskapi_jupyter.service.store.connection import Row

    from .prometheus import Figures

JOB = "https://events.jupyter.org/taskapi_jupyter/job/v1"
API = "https://events.jupyter.org/taskapi_jupyter/api/v1"
SCHEDULE = "https://events.jupyter.org/taskapi_jupyter/schedule/v1"

POLL_INTERVAL = 0.1  # seconds, where no bell can be heard
PATIENCE = 1.0  # seconds to wait for one that is locked


News = tuple[str, dict[str, str]]  # schema and data of one event


class Changes:
    """Tells the event loop what changes in one database, from its start on."""

    def __init__(self, path: Path, log: Logger, try_again: float = 1.0) -> None:
        self._path = path
        self._log = log
        self.try_again = try_again  # seconds until a database that could not be read is tried again
        self.count = 0  # how often anything has changed
        self.stopping = False
        self._held: dict[str | None, set[asyncio.Event]] = {}
        self._ended, self._changed = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="taskapi-events", daemon=True)
        self._seen: int | None = None  # the counter up to which all changes were told
        self._apis: Mapping[str, int] = {}

    def start(self) -> None:
        """Begin, unless it has begun; earlier changes are not told."""
        if not self._thread.is_alive() and not self._ended.is_set():
            self._loop = asyncio.get_running_loop()
            self._thread.start()

    async def stop(self) -> None:
        """Wake all that wait, and return when they have been answered and the thread has ended."""
        self.stopping = True
        self._wake(*self._held)
        self._ended.set()
        self._changed.set()
        if self._thread.is_alive():
            await asyncio.to_thread(self._thread.join, 2 * PATIENCE)
        for _ in range(100):
            if not self._held:
                break
            await asyncio.sleep(PATIENCE / 100)

    @contextmanager
    def watching(self, job_id: str | None) -> Iterator[asyncio.Event]:
        """Give an event that is set at each change of a job, or of anything at all."""
        self.start()
        event = asyncio.Event()
        self._held.setdefault(job_id, set()).add(event)
        try:
            yield event
        finally:
            self._held[job_id].discard(event)
            if not self._held[job_id]:
                del self._held[job_id]

    @contextmanager
    def watching_files(self, job_id: str, prefix: str | tuple[str, ...]) -> Iterator[tuple[asyncio.Event, bool]]:
        """Do so for a job and the files in its folder that begin with ``prefix``; say whether these are heard."""
        with self.watching(job_id) as event:
            wake = partial(asyncio.get_running_loop().call_soon_threadsafe, event.set)
            with Listener(self._path.parent, wake, job_id, prefix, written=prefix == "log") as files:
                yield event, files.works

    @property
    def waiting(self) -> int:
        """How many requests and streams wait now."""
        return sum(map(len, self._held.values()))

    def _wake(self, *job_ids: str | None) -> None:
        for job_id in job_ids:
            for event in self._held.get(job_id, ()):
                event.set()

    def _run(self) -> None:
        said = ""
        while not self._ended.is_set():
            try:
                with (
                    closing(Store(self._path, patience=PATIENCE)) as store,
                    Listener(self._path.parent, self._changed.set) as listener,
                ):
                    while not self._ended.is_set():
                        self._poll(store)
                        said = ""
                        self._changed.wait(LOOK_AGAIN if listener.works else POLL_INTERVAL)
                        self._changed.clear()
            except (sqlite3.Error, OSError, TaskAPIError) as error:
                if str(error) != said:
                    said = str(error)
                    self._log.warning("changes of jobs can't be seen: %s", said)
                self._ended.wait(self.try_again)
            except RuntimeError:  # the event loop has ended
                return

    def _poll(self, store: Store) -> None:
        """Tell what is new."""
        counter = store.counter()
        if counter == self._seen:
            return
        if self._seen is None or counter < self._seen:  # at the beginning, or where another database took its place
            self._seen, self._apis = counter, store.deployed()
            self._note(store, [])
            self._loop.call_soon_threadsafe(self._wake_all)
            return
        rows, apis = store.news(self._seen), store.deployed()
        self._note(store, rows)
        # Waiting for it paces this thread; what changes meanwhile is told in its latest state.
        asyncio.run_coroutine_threadsafe(self._tell(rows, apis), self._loop).result()
        self._seen = max([counter, *(row["change"] for row in rows if isinstance(row["change"], int))])
        self._apis = apis

    def _note(self, store: Store, rows: list[Row]) -> None:
        """Take in which jobs have changed, in this thread."""

    def _wake_all(self) -> None:
        self.count += 1
        self._wake(*self._held)

    async def _tell(self, rows: list[Row], apis: Mapping[str, int]) -> None:
        """Tell which jobs have changed, and which APIs are deployed now."""
        self.count += 1
        self._wake(None, *(row["id"] for row in rows))


class Events(Changes):
    """Emits an event for each change, too, and has the server's ``/metrics`` show the jobs."""

    def __init__(self, path: Path, logger: EventLogger, log: Logger, try_again: float = 1.0) -> None:
        super().__init__(path, log, try_again)
        self._logger = logger
        for name in ("job", "api", "schedule"):
            logger.register_event_schema(Path(__file__).parent / "event_schemas" / f"{name}.yaml")
        self._figures: Figures | None = None
        self._schedules: Mapping[str, Row] | None = None
        self._of_schedules: list[News] = []

    def start(self) -> None:
        """Begin, unless it has begun; earlier changes are not told."""
        if self._figures is None and not self.stopping:
            from .prometheus import Figures  # which takes time to import; a server has it then

            self._figures = Figures()
            self._figures.show()
        super().start()

    async def stop(self) -> None:
        """Show nothing more, and end as :class:`Changes`."""
        if self._figures is not None and not self.stopping:
            self._figures.hide()
        await super().stop()

    def _note(self, store: Store, rows: list[Row]) -> None:
        assert self._figures is not None
        self._figures.note(store, rows)
        before, now = self._schedules, {row["name"]: row for row in store.schedule_news()}
        self._of_schedules = [] if before is None else list(_news_of_schedules(before, now))
        self._schedules = now

    async def _tell(self, rows: list[Row], apis: Mapping[str, int]) -> None:
        await super()._tell(rows, apis)
        news: list[News] = [(API, {"api_name": name, "status": "deleted"}) for name in self._apis.keys() - apis]
        news += [
            (API, {"api_name": name, "status": "deployed"})
            for name, change in apis.items()
            if self._apis.get(name) != change
        ]
        news += [
            (
                JOB,
                {"job_id": row["id"], "api_name": row["api_name"], "status": row["status"]}
                | ({"group": row["group_id"]} if isinstance(row["group_id"], str) else {}),
            )
            for row in rows
            if not fault({"id": row["id"], "api_name": row["api_name"]})
            and (row["status"] == "deleted" or not fault({"status": row["status"]}))
        ]
        for schema, data in (*news, *self._of_schedules):
            if self.stopping:
                return
            self._emit(schema, data)
            await asyncio.sleep(0)  # each listener has a task of its own now: others have their turn between two events

    def _emit(self, schema: str, data: dict[str, Any]) -> None:
        try:
            self._logger.emit(schema_id=schema, data=data)
        except Exception:  # whatever somebody's handler or modifier raises
            self._log.exception("an event could not be emitted")


def _news_of_schedules(before: Mapping[str, Row], now: Mapping[str, Row]) -> Iterator[News]:
    """Yield what became of schedules; ``before`` and ``now`` are those there were, and are, by name."""
    for name, row in {**before, **now}.items():
        old = before.get(name)
        if fault({"name": name, "api_name": row["api_name"]}) or (name in now and old == row):
            continue
        if name not in now:
            status = "deleted"
        elif old is None or old["created"] != row["created"]:
            status = "created"
        elif old["last_job"] != row["last_job"]:
            status = "fired"
        else:
            status = "misfired" if old["misfires"] < row["misfires"] else "changed"
        yield SCHEDULE, {"schedule": name, "api_name": row["api_name"], "status": status}
