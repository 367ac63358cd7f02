"""A job's log as it grows: a websocket of newline-terminated text frames, closed with 1000 at the end."""

from __future__ import annotations

import asyncio
import codecs
from typing import Any

from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from taskapi_jupyter.client import log_reader
from taskapi_jupyter.client.bell import woken
from taskapi_jupyter.core.errors import BadRequest, QueryParamRequired, TaskAPIError, printable
from taskapi_jupyter.core.host import backoff
from taskapi_jupyter.display.screen import Screen
from taskapi_jupyter.server.authentication import Authenticated, refuse_worker
from taskapi_jupyter.service.service import Service

from .base import Errors

CHUNK = 256 << 10  # bytes read at a time
SHORTEST, LONGEST = 0.1, 1.0  # seconds between looks at a log that doesn't grow
REST = 0.01  # seconds between looks at one that does


class Lines:
    """Cut bytes into text that ends with a newline; no character is split, and what is not UTF-8 is replaced.

    A line that rewrites itself is sent in the states that it has when asked for, each as a line, and in its last.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._screen = Screen()

    def feed(self, data: bytes, *, gap: bool = False, final: bool = False, states: bool = True) -> str:
        """Return complete lines, with ``final`` the last one too; a ``gap`` before ``data`` ends a line."""
        rest = self._screen.close() if gap else ""
        lines = [f"{rest}\n" if rest else "", self._screen.feed(self._decoder.decode(data, final))]
        if states:
            lines += [f"{state}\n" for state in self._screen.states(idle=not data)]
        if final and (rest := self._screen.close()):
            lines.append(f"{rest}\n")
        return "".join(lines)


class Stream(Errors, Authenticated, WebSocketMixin, WebSocketHandler, JupyterHandler):  # type: ignore[misc]
    """Base of the websockets: checks the user and the page that opens it."""

    contract = True

    async def admit(self) -> None:
        """Raise HTTPError or one of our errors for a request that may not open a websocket."""
        await self.check_authorized("execute")
        if not JupyterHandler.check_origin(self):
            raise web.HTTPError(403, "Cross origin websockets not allowed")
        refuse_worker(self.request)
        if (failure := await self.backends.failing()) is not None:
            raise failure
        if self.request.method != "GET" or self.request.headers.get("Upgrade", "").lower() != "websocket":
            raise BadRequest("this is a websocket: the request must ask to upgrade to it")


class LogStream(Stream):
    """``streamlogs/{api}?jobID=``."""

    _follower: asyncio.Task[None] | None = None

    @ws_authenticated  # type: ignore[untyped-decorator]
    async def get(self, env: str, api: str) -> None:
        """Refuse what can't be followed, else shake hands."""
        await self.admit()
        environment = self.backends.environment(env)
        job_id = self.get_query_argument("jobID", "")
        if not job_id:
            raise QueryParamRequired("jobID")
        await self.backends.run(self.backends.follow, environment.job_of, api, job_id)
        self._target = (environment, job_id)
        await super().get(env, api)

    def open(self, *args: Any, **kwargs: Any) -> None:
        """Begin to follow."""
        super().open(*args, **kwargs)
        self._follower = self.backends.follower(asyncio.create_task(self._follow(*self._target)))

    def on_message(self, message: str | bytes) -> None:
        """Ignore what the client says."""

    def on_close(self) -> None:
        """Stop following: the client has gone."""
        super().on_close()
        if self._follower is not None:
            self._follower.cancel()

    async def _follow(self, environment: Service, job_id: str) -> None:
        try:
            await self._send(environment, job_id)
            self.close(1000, "the job has ended")
        except TaskAPIError as error:
            self.close(1011, printable(error.message).encode()[:120].decode(errors="ignore"))
        except WebSocketClosedError:
            pass
        except asyncio.CancelledError:
            self.close(1001, "the server is shutting down")
            raise

    async def _send(self, environment: Service, job_id: str) -> None:
        run, pool, loop = self.backends.run, self.backends.follow, asyncio.get_running_loop()
        lines, offset, pauses, ended = Lines(), 0, backoff(SHORTEST, LONGEST), False
        heard = due = 0.0  # when the log was seen to grow, and when states of a bar are sent again
        with self.backends.changes_of(environment).watching_files(job_id, "log") as (changed, _):
            while True:
                changed.clear()
                began = loop.time()
                chunk = await run(pool, environment.log_chunk, job_id, offset, CHUNK)
                if chunk.next > offset:
                    text = lines.feed(chunk.data, gap=chunk.offset > offset, states=began >= due)
                    due = began + log_reader.INTERVAL if began >= due else due
                    offset, heard, pauses = chunk.next, began, backoff(SHORTEST, LONGEST)
                    if text:
                        await self.write_message(text)
                elif ended:
                    break
                else:
                    # What has ended writes no more: one more look at the log, then, is the last.
                    response = await run(pool, environment.job_response, job_id)
                    ended = not response.job_status.code.in_progress
                    if began - heard >= log_reader.INTERVAL and (text := lines.feed(b"")):  # a bar that stands still
                        await self.write_message(text)
                if offset >= chunk.size and not ended:
                    await woken(changed, next(pauses))
                    await asyncio.sleep(max(began + REST - loop.time(), 0))
        if text := lines.feed(b"", final=True):
            await self.write_message(text)
