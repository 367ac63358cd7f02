"""nbclient, which executes the cells: with the log, saves and bounds of a job."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from contextlib import suppress
from queue import Empty
from time import monotonic
from typing import Any, cast

import zmq.asyncio
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.channels import AsyncZMQSocketChannel
from nbclient import NotebookClient
from nbclient.util import ensure_async
from nbformat import NotebookNode, from_dict
from traitlets import Type

from .document import Document, Saver
from .ends import NotReady, Stopped
from .kernel import INT, Kernel
from .parameters import tags
from .telling import Log

SCRAP = "application/scrapbook.scrap.json+json"

#: Has ipykernel keep what we have not read: its socket drops messages beyond a thousand. No name is bound.
_DROP_NOTHING = f"""try:
    get_ipython().kernel.iopub_thread.schedule(
        lambda socket=get_ipython().kernel.iopub_thread.socket: socket.setsockopt({int(zmq.SNDHWM)}, 0)
    )
except Exception:
    pass
"""


class Channel(AsyncZMQSocketChannel):
    """A channel that loses no answer to a message that comes while another one is sent.

    ``Session.send`` sends through a shadow of the socket, where the wake-up for what comes at that moment ends.
    nbclient sends so while a cell's answer is due: the state of a widget.
    """

    def send(self, msg: dict[str, Any]) -> None:
        """Send, and have what has come meanwhile be handled."""
        super().send(msg)
        self.socket.get(zmq.EVENTS)


class Speaker(AsyncKernelClient):
    """A client of a kernel whose process is a child of ours."""

    kernel: Kernel
    shell_channel_class = Type(Channel)

    async def is_alive(self) -> bool:
        """Whether the kernel's process has not ended."""
        return self.kernel.alive()


class Cells(NotebookClient):
    """Executes the cells of one notebook."""

    def __init__(self, document: Document, kernel: Kernel, saver: Saver, log: Log, most: int) -> None:
        super().__init__(cast(NotebookNode, document.content), store_widget_state=True, timeout=None)
        self.kernel, self.document, self.saver, self.job_log = kernel, document, saver, log
        self.most = most  # bytes of a cell's outputs; 0: no bound
        self.size = 0  # bytes of the outputs of the cell that runs
        self.count = 0  # of these outputs
        self.glued: dict[str, Any] = {}
        self.left = False  # whether a cell asked the kernel to exit
        self.on_cell_executed = self._executed

    async def connect(self, seconds: float, stopped: Callable[[], bool]) -> None:
        """Wait until the kernel answers.

        Raise :class:`NotReady` where it ends before or takes longer than ``seconds``, :class:`Stopped` at a TERM.
        """
        until = monotonic() + seconds

        async def pause(wait: float) -> None:
            if stopped():
                raise Stopped
            if not self.kernel.alive():
                raise NotReady(
                    f"the kernel {self.kernel.name} ended with exit code {self.kernel.code} before it was ready"
                )
            if monotonic() > until:
                raise NotReady(f"the kernel {self.kernel.name} was not ready in {seconds:g} s")
            if wait:
                await asyncio.sleep(wait)

        socket = self.kernel.socket("iopub")  # the last but one that ipykernel makes
        while socket is not None and not os.path.exists(socket):  # to connect earlier is to try again 0.1 s later
            await pause(0.005)
        context = zmq.asyncio.Context()
        context.setsockopt(zmq.RCVHWM, 0)  # what we read late is kept, not dropped
        self.kc = speaker = Speaker(context=context)
        speaker.kernel = self.kernel
        speaker.load_connection_info(cast(Any, self.kernel.connection))
        speaker.start_channels(stdin=False, hb=False)
        speaker.allow_stdin = False
        speaker.kernel_info()
        heard, info = False, None
        while info is None or not heard:
            await pause(0)
            if info is None:
                with suppress(Empty):
                    info = await ensure_async(speaker.shell_channel.get_msg(timeout=0.1))
            with suppress(Empty):  # what it says to all shows that we hear what it says of cells
                await ensure_async(speaker.iopub_channel.get_msg(timeout=0.1 if info else 0.001))
                heard = True
            if info is not None and not heard:
                speaker.kernel_info()
        self.nb.metadata["language_info"] = language = info["content"].get("language_info", {})
        if language.get("name") == "python":
            speaker.execute(_DROP_NOTHING, silent=True, store_history=False)

    async def forget_messages(self) -> None:
        """Take what others had the kernel say, so that it does not fill memory."""
        assert self.kc is not None
        for channel in (self.kc.iopub_channel, self.kc.shell_channel):
            while await channel.msg_ready():
                await ensure_async(channel.get_msg(timeout=0.001))

    def interrupt(self) -> None:
        """Interrupt what the kernel executes, in the way that its specification says."""
        assert self.kc is not None
        if self.kernel.by_message:
            self.kc.control_channel.send(self.kc.session.msg("interrupt_request", {}))
        else:
            self.kernel.signal(INT)

    def ask_to_leave(self) -> None:
        """Ask the kernel to end, so that what its cells have open is closed."""
        if self.kc is not None:
            self.kc.control_channel.send(self.kc.session.msg("shutdown_request", {"restart": False}))

    def begin(self) -> None:
        """Prepare for the next cell."""
        self.size = self.count = 0

    async def _executed(self, *, cell: Any, cell_index: int, execute_reply: dict[str, Any]) -> None:
        for output in cell.outputs:  # nbclient, which reads them where a cell fails, takes no lists
            if isinstance(output.get("text"), list):
                output["text"] = "".join(output["text"])
        for one in execute_reply["content"].get("payload") or ():
            self.left = self.left or (one.get("source") == "ask_exit" and not one.get("keepkernel"))

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        """Take what the kernel says of a cell."""
        done = super().process_message(msg, cell, cell_index)
        if msg["msg_type"] in ("stream", "error", "execute_result", "display_data"):
            self._log(msg, cell)
        if len(cell.outputs) < self.count:  # they were cleared
            self.size = 0
        self.count = len(cell.outputs)
        if msg["msg_type"] not in ("status", "execute_input"):
            self.saver.changes()
        return done

    def output(self, outs: list[Any], msg: dict[str, Any], display_id: str | None, cell_index: int) -> Any:
        """Keep an output; what is over the bound is not kept, and that is said once."""
        content = msg["content"]
        self._take_scrap(content)
        kind, hooked = msg["msg_type"], bool(self.output_hook_stack[msg["parent_header"].get("msg_id")])
        if self.clear_before_next_output or not outs:
            self.size = 0
        if self.most and not hooked:
            room, size = self.most - self.size, _size(content)
            self.size += size
            if size > room and kind != "error":
                if room < 0:
                    return None
                if kind == "stream":
                    self._append(outs, msg, content["text"].encode("utf-8", "replace")[:room].decode("utf-8", "ignore"))
                text = f"\ntaskapi: the outputs of this cell are cut at {self.most} bytes (log_max_bytes)\n"
                outs.append(from_dict({"output_type": "stream", "name": "stderr", "text": text}))
                return None
        if kind == "stream" and not hooked and not self.clear_before_next_output:
            return self._append(outs, msg, content["text"])
        return super().output(outs, msg, display_id, cell_index)

    def _append(self, outs: list[Any], msg: dict[str, Any], text: str) -> None:
        """Add to the stream that the last output is; a list, which the file may have: joining would copy it all."""
        name = msg["content"]["name"]
        last = outs[-1] if outs else None
        if last is not None and last["output_type"] == "stream" and last["name"] == name:
            if isinstance(last["text"], str):
                last["text"] = [last["text"]]
            last["text"].append(text)
        else:
            outs.append(from_dict({"output_type": "stream", "name": name, "text": [text]}))

    def _take_scrap(self, content: dict[str, Any]) -> None:
        scrap = (content.get("data") or {}).get(SCRAP)
        if isinstance(scrap, dict) and isinstance(scrap.get("name"), str):
            self.glued[scrap["name"]] = scrap.get("data")

    def _log(self, msg: dict[str, Any], cell: Any) -> None:
        content, kind = msg["content"], msg["msg_type"]
        if kind == "stream":
            self.job_log.write(content["text"])
        elif kind == "error":
            if "raises-exception" not in tags(cell):
                self.job_log.source(cell.source)
            traceback = content.get("traceback") or [f"{content.get('ename')}: {content.get('evalue')}"]
            self.job_log.line("\n".join(traceback))
        elif isinstance(text := content.get("data", {}).get("text/plain"), str):
            self.job_log.line(text)


def _size(content: dict[str, Any]) -> int:
    """Return about how many bytes an output takes in the file."""
    text = content.get("text")
    if isinstance(text, str):
        return len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    data = content.get("data") or content.get("traceback") or {}
    values = data.values() if isinstance(data, dict) else data
    return sum(len(one) if isinstance(one, str) else len(json.dumps(one)) for one in values)
