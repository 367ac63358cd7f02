"""The double: two HTTP servers in a thread of their own, and what tests do with them."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, TypeVar

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from .base import Request, Socket
from .faults import Quirk
from .handlers import LogStream, balancer_routes, operator_routes
from .state import API, Cluster, Job, digest

T = TypeVar("T")


class Operator:
    """A Cortex operator and its API load balancer; a context manager. What is below can be set at any time."""

    manual = False  # jobs stay pending until told
    step = 0.02  # seconds that a job is pending, and then running, where it runs by itself
    lines: tuple[str, ...] = ("started", "working", "done")  # that such a job logs
    outcome = "succeeded"  # that such a job comes to

    lag = 0  # reads after a submit that answer job.not_found
    lag_seconds = 0.0  # the same, by time
    spurious = 0  # reads after those that say unexpected_error
    other_kinds = False  # whether there is a RealtimeAPI, named classifier
    flood = 0  # bytes of made-up log lines at the start of each log websocket
    auth = False  # whether 0.30 and later look at X-Cortex-Authorization
    expired = False  # whether they find it expired
    other_account = False  # whether they find it to be of another account

    def __init__(self, version: str = "0.42.1", *, port: int = 0, balancer_port: int = 0, **switches: Any) -> None:
        """Take ports of the loopback interface, and any of the switches above or below."""
        self.version = version
        self.cluster = Cluster(version)
        self.quirks: list[Quirk] = []
        self.requests: list[Request] = []
        self.sockets: list[Socket] = []
        self.streams: dict[int, LogStream] = {}
        for name, value in switches.items():
            if name.startswith("_") or callable(getattr(Operator, name)):
                raise TypeError(f"{name} is not a switch")
            setattr(self, name, value)
        self._listening = [bind_sockets(one, "127.0.0.1") for one in (port, balancer_port)]
        self.url, self.balancer_url = (f"http://127.0.0.1:{one[0].getsockname()[1]}" for one in self._listening)
        self.cluster.balancer_url = self.balancer_url
        self._ready: Future[None] = Future()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="cortex-double", daemon=True)

    def __enter__(self) -> Operator:
        """Serve."""
        self._thread.start()
        self._ready.result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop, whatever is under way."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        servers = []
        for sockets, routes in zip(self._listening, (operator_routes, balancer_routes), strict=True):
            application = Application(routes(self), log_function=lambda _: None)
            servers.append(HTTPServer(application, max_body_size=1 << 40))
            servers[-1].add_sockets(sockets)
        self._ready.set_result(None)
        await self._stop.wait()
        for server in servers:
            server.stop()
        closing = [asyncio.ensure_future(server.close_all_connections()) for server in servers]
        await asyncio.wait(closing, timeout=1)  # what hangs is then cancelled with the loop

    def _call(self, function: Callable[..., T], *args: Any) -> T:
        """Call a function in the loop's thread."""

        async def call() -> T:
            return function(*args)

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(10)

    # What handlers ask

    def submit(self, name: str, body: bytes) -> dict[str, Any]:
        """Make a job, and have it run unless it is driven by hand."""
        job = self.cluster.submit(name, body)
        if not self.manual:
            job.script = asyncio.create_task(self._script(job))
        return self.cluster.submitted(job)

    async def _script(self, job: Job) -> None:
        await asyncio.sleep(self.step)
        job.change("running")
        for line in self.lines:
            job.change(line=line)
        await asyncio.sleep(self.step)
        job.change(self.outcome)

    def read(self, name: str, job_id: str) -> dict[str, Any]:
        """Return a job's status, or what a race makes of it."""
        self.cluster.api(name)
        job = self.cluster.job(name, job_id)
        job.reads += 1
        if job.reads <= self.lag or time.time_ns() - job.submitted < self.lag_seconds * 1e9:
            raise self.cluster.no_job(name, job_id)
        late = job.reads <= self.lag + self.spurious
        return self.cluster.answer(job, "unexpected_error" if late else None)

    def others(self) -> dict[str, API]:
        """Return APIs of other kinds."""
        spec = {"name": "classifier", "kind": "RealtimeAPI", "api_id": digest("classifier")}
        return {"classifier": API("classifier", spec, "RealtimeAPI")} if self.other_kinds else {}

    # What tests do

    @property
    def apis(self) -> dict[str, API]:
        """Return what is deployed, by name."""
        return self.cluster.apis

    @property
    def jobs(self) -> dict[str, Job]:
        """Return all jobs, by id, oldest first."""
        return self.cluster.jobs

    def quirk(self, kind: str, value: Any = None, **where: Any) -> Quirk:
        """Add a fault (``faults.DEFAULTS`` lists them); keywords ``path``, ``method`` and ``times`` narrow it."""
        quirk = Quirk(kind, value, **where)
        self.quirks.append(quirk)
        return quirk

    def deploy(self, name: str, endpoint: str | None = None) -> API:
        """Deploy an API without a request."""
        ids = {one: digest(name, endpoint) for one in ("api_id", "spec_id", "predictor_id", "pod_id")}
        ids.pop("pod_id" if self.cluster.old else "predictor_id")
        definition: dict[str, Any] = {"definition": {"path": "task.py"}}
        pod: dict[str, Any] = {"pod": {"containers": [{"name": "api", "image": "example/task"}]}}
        spec = {"name": name, "kind": "TaskAPI", "networking": {"endpoint": endpoint or name}, **ids}
        api = API(name, {**spec, **(definition if self.cluster.old else pod)})
        self._call(self.cluster.put, api)
        return api

    def start(self, job_id: str, status: str = "running") -> None:
        """Have a job run, or be in another state that is not an end."""
        self._call(self.jobs[job_id].change, status)

    def log(self, job_id: str, line: str) -> None:
        """Have a job log a line, given without its end."""
        self._call(self.jobs[job_id].change, None, line)

    def finish(self, job_id: str, status: str = "succeeded") -> None:
        """Have a job end."""
        self._call(self.cluster.end, self.jobs[job_id], status)

    def drop(self) -> None:
        """End all log websockets with RST."""

        def drop() -> None:
            for stream in list(self.streams.values()):
                stream.drop()

        self._call(drop)
