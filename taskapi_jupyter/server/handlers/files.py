"""What a job left: its log, its result, its files. A cluster keeps none of them, and says so."""

from __future__ import annotations

import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from msgspec import UNSET
from tornado import web
from tornado.iostream import StreamClosedError

from taskapi_jupyter.client import results
from taskapi_jupyter.client.headers import ENDED_HEADER, WAITS_HEADER
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import ErrorBody, FilesResponse, LogChunk, encode
from taskapi_jupyter.core.errors import NotAcceptable
from taskapi_jupyter.node.storage import EXCEPTION, VIEW
from taskapi_jupyter.server.authentication import guarded
from taskapi_jupyter.service.outputs import view_of

from .base import Handler
from .held import HeldHandler

INT64 = (1 << 63) - 1
MAX_CHUNK = 16 << 20  # bytes of a log
BLOCK = 256 << 10  # bytes read at a time
BINARY = "application/octet-stream"


class LogHandler(HeldHandler):
    """A job's log."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer a piece of it, with headers that say where the piece begins and where to go on."""
        offset = self.integer("offset", 0, -INT64, INT64)
        limit = self.integer("limit", 1 << 20, 1, MAX_CHUNK)
        api = self.text("api")

        def read(environment: TaskAPI) -> tuple[LogChunk, bool]:
            # What has ended writes no more: its state is read before its log.
            ended = self.waits and not environment.job_response(job_id, api).job_status.code.in_progress
            return environment.log_chunk(job_id, offset, limit, api), ended

        async def look() -> bool:
            self.chunk, ended = await self.backends.ask(env, read)
            if ended and self.chunk.next >= self.chunk.size:
                self.set_header(ENDED_HEADER, "true")
            return ended or self.chunk.size > offset

        with self.backends.waits.asking(env, job_id, self.request.headers.get(WAITS_HEADER)):
            await self.hold(env, look, job_id, "log")
        chunk = self.chunk
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        self.set_header("X-Log-Offset", str(chunk.offset))
        self.set_header("X-Log-Next", str(chunk.next))
        self.set_header("X-Log-Size", str(chunk.size))
        self.finish(chunk.data)


class FileBase(Handler, web.StaticFileHandler):
    """One file, with tornado's ranges; the browser that fetches it never runs what a task wrote."""

    def initialize(self) -> None:  # type: ignore[override]
        """Begin without a root: it depends on the job."""
        web.StaticFileHandler.initialize(self, os.sep)
        self.size = 0
        self.range: tuple[int, int] | None = None

    @property
    def content_security_policy(self) -> str:
        """Confine what a browser shows all the same."""
        return f"{super().content_security_policy}; sandbox"

    async def serve(self, env: str, name: str, file: IO[bytes]) -> None:
        """Answer a file that was opened: by its name another may be had by now."""
        with file:
            # As Jupyter's own files: no other site may embed them with the user's cookie.
            self.check_xsrf_cookie()
            self._stat_result = os.fstat(file.fileno())
            await web.StaticFileHandler.get(self, name, self.request.method != "HEAD")
            if self.get_status() == 416:
                self.set_header("Content-Type", "application/json")
                self.finish(encode(ErrorBody("error", f"the file has {self.size} bytes: no such range")))
            elif self.range is not None:
                await self.send(self.backends.keeping(env), file, *self.range)

    def parse_url_path(self, url_path: str) -> str:
        """Keep the name: it is that of a file which was found."""
        return url_path

    @classmethod
    def get_absolute_path(cls, root: str, path: str) -> str:
        """Return the name, of which the media type is guessed."""
        return path

    def validate_absolute_path(self, root: str, absolute_path: str) -> str:
        """Look for nothing: the file is open."""
        return absolute_path

    async def send(self, pool: ThreadPoolExecutor, file: IO[bytes], begin: int, end: int) -> None:
        """Send a range of a file, block by block; a thread reads, the client's pace decides."""
        run = self.backends.run
        await run(pool, file.seek, begin)
        while begin < end and (block := await run(pool, file.read, min(BLOCK, end - begin))):
            begin += len(block)
            self.write(block)
            try:
                await self.flush()
            except StreamClosedError:
                return

    def get_content_size(self) -> int:
        """Remember the size: a file that grows meanwhile is answered as long as it was."""
        self.size = super().get_content_size()
        return self.size

    def get_content(  # type: ignore[override]
        self, abspath: str, start: int | None = None, end: int | None = None
    ) -> Generator[bytes, None, None]:
        """Note what tornado found the range to be; it is sent without blocking the loop."""
        self.range = (start or 0, self.size if end is None else end)
        yield from ()

    def set_extra_headers(self, path: str) -> None:
        """Have caches ask again each time."""
        self.set_header("Cache-Control", "no-cache")


class FileHandler(FileBase):
    """One of a job's files, as an attachment."""

    @guarded
    async def get(self, env: str, job_id: str, path: str) -> None:  # type: ignore[override]
        """Answer it."""
        file = await self.backends.ask(
            env, lambda environment: environment.open_file(job_id, path), self.backends.keeping(env)
        )
        name = path.rpartition("/")[2]
        self.set_attachment_header(name)
        await self.serve(env, name, file)


class ResultHandler(FileBase):
    """What the task returned."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:  # type: ignore[override]
        """Answer JSON; a pickle's bytes if the client asks for them, or accepts anything and there is no JSON."""
        accept = self.request.headers.get("Accept", "*/*")
        wants_pickle = BINARY in accept.lower() and accepts(accept, BINARY)
        name, file = await self.backends.ask(
            env, lambda environment: environment.open_result(job_id, not wants_pickle), self.backends.keeping(env)
        )
        self.json = name.endswith(".json")
        end = b"" if self.json else await self.backends.run(self.backends.keeping(env), results.end_of, file)
        if not wants_pickle and results.is_unviewed(end) and (view := await self.slow(view_of, file)) is not None:
            file.close()
            self.json, name, file = True, VIEW, view
        if not self.json:
            loader = results.loader_in(end)
            if not accepts(accept, BINARY):
                file.close()
                takes = f" for {results.words(*loader)}" if loader else ""
                raise NotAcceptable(
                    f"the result of job {job_id} is a pickle{takes}: ask for it with 'Accept: {BINARY}'"
                )
            self.set_attachment_header(name)
            if loader:
                self.set_header("X-Taskapi-Loader", "{}; python={}".format(*loader))
        await self.serve(env, name, file)

    def get_content_type(self) -> str:
        """Return what the result is, whatever was asked for."""
        return "application/json" if self.json else BINARY


class ExceptionHandler(FileBase):
    """What the task raised."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:  # type: ignore[override]
        """Answer its pickle."""
        pool = self.backends.keeping(env)
        file = await self.backends.ask(env, lambda environment: environment.open_exception(job_id), pool)
        if loader := results.loader_in(await self.backends.run(pool, results.end_of, file)):
            self.set_header("X-Taskapi-Loader", "{}; python={}".format(*loader))
        self.set_attachment_header(EXCEPTION)
        await self.serve(env, EXCEPTION, file)

    def get_content_type(self) -> str:
        """Return what it is."""
        return BINARY


class FilesHandler(Handler):
    """A job's files."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """List them."""

        def files(environment: TaskAPI) -> bytes:
            found = environment.files(job_id)
            return encode(FilesResponse(found, found.truncated or UNSET))

        self.finish(await self.backends.ask(env, files, self.backends.keeping(env)))


class MetricsHandler(Handler):
    """What the task has recorded."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer the points from an offset on."""
        names = [name for text in self.get_query_arguments("names") for name in (text, *text.split(","))]
        since = self.integer("since", 0, 0, INT64)
        pool = self.backends.keeping(env)
        found = await self.backends.ask(
            env, lambda environment: encode(environment.metrics(job_id, names, since)), pool
        )
        self.finish(found)


class UsageHandler(Handler):
    """What the job's processes used."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer the points."""
        pool = self.backends.keeping(env)
        self.finish(await self.backends.ask(env, lambda environment: encode(environment.usage(job_id)), pool))


class PreviewHandler(Handler):
    """What a pickled result looks like."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer its forms by their media type."""
        pool = self.backends.keeping(env)
        self.finish(await self.backends.ask(env, lambda environment: encode(environment.preview(job_id)), pool))


def accepts(header: str, media: str) -> bool:
    """Whether an Accept header includes a media type; the most specific range that fits decides."""
    best = (-1, 0.0)
    for one in header.split(","):
        name, *parameters = [part.strip().lower() for part in one.split(";")]
        fits = {media: 2, f"{media.partition('/')[0]}/*": 1, "*/*": 0}.get(name)
        if fits is not None:
            best = max(best, (fits, quality(parameters)))
    return best[1] > 0


def quality(parameters: list[str]) -> float:
    """Return the ``q`` among the parameters of a media range; what can't be read counts as 1."""
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 1.0
    return 1.0
