"""The routes of the operator and of the load balancer."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError
from tornado.web import stream_request_body
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from .base import Base, Socket, abort, answers
from .state import Job, Refusal

if TYPE_CHECKING:
    from .double import Operator

CHUNK = 32 << 10
LONGEST_LINE = {True: 64 << 10, False: 1 << 20}  # by whether it is 0.28


class Unknown(Base):
    """Paths that there are not."""

    async def prepare(self) -> None:  # type: ignore[override]
        """Record the request, and refuse it."""
        super().prepare()
        await self.answer({"kind": "error", "message": "404 page not found"}, 404)


class Verify(Base):
    """``/verifycortex``."""

    wants_version = wants_auth = False

    @answers
    def get(self) -> Any:
        """Say that this is Cortex."""
        return {"message": "this is a Cortex operator"}


class Info(Base):
    """``/info``."""

    wants_version = False

    @answers
    def get(self) -> Any:
        """Describe the cluster."""
        return {
            "cluster_config": {"api_version": self.operator.version, "cluster_name": "double", "region": "us-east-1"}
        }


class Get(Base):
    """``/get``, ``/get/{api}`` and ``/get/{api}/{apiID}``."""

    @answers
    def get(self, name: str | None = None, api_id: str | None = None) -> Any:
        """List APIs, one API, or one version of it."""
        cluster, others = self.cluster, self.operator.others()
        if name is None:
            return [cluster.listed(api) for api in [*cluster.apis.values(), *others.values()]]
        if api_id is not None:
            return [cluster.one_version(name, api_id)]
        return [cluster.one(others.get(name) or cluster.api(name))]


class Deploy(Base):
    """``/deploy``."""

    @answers
    def post(self) -> Any:
        """Deploy what a form brings."""
        self.required("configFileName")
        if self.get_query_argument("force", "false") not in ("true", "false"):
            raise Refusal("force: must be true or false")
        files = {name: parts[0].body for name, parts in self.request.files.items()}
        if "config" not in files:
            raise Refusal("request form file must be provided: config")
        return self.cluster.deploy(files["config"], files.get("project.zip"))


class Delete(Base):
    """``/delete/{api}``."""

    @answers
    def delete(self, name: str) -> Any:
        """Delete an API."""
        if self.get_query_argument("keepCache", "false") not in ("true", "false"):
            raise Refusal("keepCache: must be true or false")
        return self.cluster.delete(name)


class Tasks(Base):
    """``/tasks/{api}``."""

    wants_version = wants_auth = False

    def name(self, word: str) -> str:
        """Return the API's name."""
        return word

    @answers
    def post(self, word: str) -> Any:
        """Submit a job."""
        return self.operator.submit(self.name(word), self.request.body)

    @answers
    def get(self, word: str) -> Any:
        """Give a job's status."""
        job_id = self.required("jobID")
        return self.operator.read(self.name(word), job_id)

    @answers
    def delete(self, word: str) -> Any:
        """Stop a job."""
        job_id = self.required("jobID")
        return self.cluster.stop(self.name(word), job_id)

    def options(self, *_: str) -> None:
        """Allow other origins what 0.42 allows them, which is not DELETE."""
        self.set_header("Access-Control-Allow-Origin", "*")
        self.set_header("Access-Control-Allow-Methods", "GET, HEAD, POST")
        self.set_status(204)


class Endpoint(Tasks):
    """The load balancer: any path that is an API's endpoint."""

    def name(self, word: str) -> str:
        """Return the name of the API that has an endpoint."""
        for api in self.cluster.apis.values():
            if api.endpoint == word.strip("/"):
                return api.name
        raise Refusal("no API has this endpoint", status=404)


class LogURL(Base):
    """``/logs/{api}`` of 0.42."""

    @answers
    def get(self, name: str) -> Any:
        """Name a page that shows logs."""
        self.cluster.api(name)
        return {"log_url": f"https://console.aws.example/cloudwatch/{name}"}


class LogStream(Base, WebSocketHandler):
    """The websocket of a job's log, as long as the job is in progress."""

    async def get(self, name: str) -> None:
        """Let in, or refuse with an error."""
        try:
            self.admit()
            job_id = self.required("jobID")
            self.cluster.api(name)
            self.job = self.cluster.job(name, job_id)
            if not self.job.live:
                raise Refusal(f"{job_id} ({name} api): has no live pods; it is {self.job.status}")
        except Refusal as refusal:
            await self.answer(refusal.body, refusal.status)
            return
        outcome = await self.misbehave(101, b"")
        if outcome is None:
            return
        if outcome[0] != 101:
            self.set_status(outcome[0])
            await self.finish(outcome[1])
            return
        await super().get(name)

    def open(self, *_: str) -> None:
        """Begin to send, beside reading what the other side sends."""
        self.socket = Socket(self.record)
        self.operator.sockets.append(self.socket)
        self.operator.streams[id(self)] = self
        self.sending = asyncio.create_task(self.send())

    async def send(self) -> None:
        """Send lines, each once the connection took the one before, and close at the end."""
        line = "x" * (CHUNK - 1) + "\n"
        with suppress(WebSocketClosedError, StreamClosedError):
            while self.socket.sent < self.operator.flood:
                await self.frame(line)
            await self.follow(self.job)
            self.close(1000)

    async def follow(self, job: Job) -> None:
        """Send a job's lines until it ended, or has one that is too long."""
        at = 0
        while True:
            changed, live = job.changed, job.live
            for line in job.lines[at:]:
                if len(line.encode()) > LONGEST_LINE[self.cluster.old]:
                    return
                await self.frame(f"{line}\n")
                at += 1
            if not live:
                return
            await changed.wait()

    async def frame(self, text: str) -> None:
        """Send a frame, and let others have their turn."""
        await self.write_message(text)
        self.socket.sent += len(text.encode())
        await asyncio.sleep(0)

    def on_message(self, message: str | bytes) -> None:
        """Keep what the other side sends."""
        self.socket.received.append(message)

    def on_close(self) -> None:
        """Stop sending."""
        self.operator.streams.pop(id(self), None)
        self.socket.closed, self.socket.code = True, self.close_code
        self.sending.cancel()

    def drop(self) -> None:
        """End the connection with RST."""
        stream = getattr(self.ws_connection, "stream", None)
        if stream is not None:
            abort(stream)
            stream.close()


# Not Cortex's: for tests of what passes bytes on


class Open(Base):
    """Routes that let anybody in."""

    wants_version = wants_auth = False


class Echo(Open):
    """``/echo…``: gives back the body; ``?status=``, and ``?header=Name:value`` as often as wanted."""

    async def echo(self, *_: str) -> None:
        """Answer with what came."""
        self.set_header("Content-Type", self.request.headers.get("Content-Type", "application/octet-stream"))
        for one in self.get_query_arguments("header"):
            name, _colon, value = one.partition(":")
            self.add_header(name, value)
        status = int(self.get_query_argument("status", "200"))
        if status in (204, 304):
            self.clear_header("Content-Type")
        await self.answer(b"" if status in (204, 304) else self.request.body, status)

    get = post = put = patch = delete = head = options = echo


class Stream(Open):
    """``/stream``: text without an end, or of ``?bytes=`` bytes."""

    async def get(self) -> None:
        """Send a chunk once the connection took the one before."""
        left = float(self.get_query_argument("bytes", "inf"))
        self.set_header("Content-Type", "text/plain")
        line = b"x" * (CHUNK - 1) + b"\n"
        with self.noticing():
            while left > 0:
                chunk = line if left >= CHUNK else line[: int(left)]
                self.write(chunk)
                await self.flush()
                self.record.sent += len(chunk)
                left -= len(chunk)
                await asyncio.sleep(0)


@stream_request_body
class Sink(Open):
    """``/sink``: counts a body and keeps nothing of it; with ``?stall=N`` it reads no further than about N bytes."""

    async def data_received(self, chunk: bytes) -> None:
        """Count."""
        self.record.received += len(chunk)
        if self.record.received >= float(self.get_query_argument("stall", "inf")):
            with suppress(asyncio.CancelledError):  # the double is stopped; tornado would log it
                await asyncio.Event().wait()

    @answers
    def post(self) -> Any:
        """Say how much came."""
        return {"bytes": self.record.received}

    put = post


def operator_routes(operator: Operator) -> list[Any]:
    """Return the routes of the operator."""
    routes: list[tuple[str, type[Base]]] = [
        (r"/verifycortex", Verify),
        (r"/info", Info),
        (r"/get", Get),
        (r"/get/([^/]+)", Get),
        (r"/get/([^/]+)/([^/]+)", Get),
        (r"/deploy", Deploy),
        (r"/delete/([^/]+)", Delete),
        (r"/tasks/([^/]+)", Tasks),
        (r"/logs/([^/]+)", LogStream if operator.cluster.minor < 36 else LogURL),
        *([(r"/streamlogs/([^/]+)", LogStream)] if operator.cluster.minor >= 36 else []),
        (r"/echo(.*)", Echo),
        (r"/stream", Stream),
        (r"/sink", Sink),
        (r".*", Unknown),
    ]
    return [(pattern, handler, {"operator": operator}) for pattern, handler in routes]


def balancer_routes(operator: Operator) -> list[Any]:
    """Return the routes of the load balancer."""
    return [(r"(/.*)", Endpoint, {"operator": operator})]
