"""Kernels to run cells in: one that a Jupyter server started, and one that nobody's server did."""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
import websocket
from conftest import LiveServer
from jupyter_client import KernelManager

CONFIG = "stop_grace: 1\ncpus: 8\n"  # all jobs of a test run at once, on any machine


SUBMIT = """from taskapi_jupyter import connect
go = pathlib.Path({path!r})
jobs = [connect().submit("waits", {{"path": str(go), "n": n}}) for n in range({count})]
while any(job.refresh().progress is None for job in jobs):
    time.sleep(0.01)
print(*[job.id for job in jobs])
"""


@dataclass
class Shown:
    """What a cell showed."""

    text: str = ""
    error: str = ""
    pictures: list[tuple[str, dict[str, str], datetime]] = field(default_factory=list)  # display id, data, when

    def take(self, message: dict[str, Any]) -> bool:
        """Keep a message; say whether the cell is done."""
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            self.text += content["text"]
        elif kind in ("display_data", "update_display_data"):
            date = message["header"]["date"]
            when = date if isinstance(date, datetime) else datetime.fromisoformat(date.replace("Z", "+00:00"))
            self.pictures.append((content["transient"]["display_id"], content["data"], when))
        elif kind == "execute_result":
            self.text += content["data"]["text/plain"] + "\n"
        elif kind == "error":
            self.error += re.sub("\x1b\\[[0-9;]*m", "", "\n".join(content["traceback"]))
        return bool(kind == "status" and content["execution_state"] == "idle")

    @property
    def bars(self) -> list[str]:
        """Return the ids of the displays that were drawn in."""
        return list(dict.fromkeys(picture[0] for picture in self.pictures))


class Kernel:
    """A kernel that runs cells; ``interrupts`` are sent to it when a bar is drawn, or once so much was printed."""

    folder: Path

    def run(self, code: str, interrupt: bool | str = False) -> Shown:
        message, shown = self.send(code), Shown()
        while True:
            answer = self.receive()
            if answer["parent_header"].get("msg_id") != message:
                continue
            if shown.take(answer):
                return shown
            if shown.pictures and (interrupt is True or (interrupt and interrupt in shown.text)):
                interrupt = False
                self.interrupt()

    def submit(self, count: int) -> tuple[Path, list[str]]:
        """Start jobs that run until a file is there; return it and their ids."""
        go = self.folder / uuid.uuid4().hex
        return go, self.run(SUBMIT.format(path=str(go), count=count)).text.split()

    def send(self, code: str) -> str:
        raise NotImplementedError

    def receive(self) -> dict[str, Any]:
        raise NotImplementedError

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Plain(Kernel):
    """A kernel that no server started, as nbclient and VS Code have it."""

    def __init__(self, folder: Path, home: Path) -> None:
        self.folder = folder
        home.mkdir(mode=0o700, exist_ok=True)
        (home / "config.yaml").write_text(CONFIG)
        hidden = ("TASKAPI_", "JPY_", "JUPYTERHUB_", "COLUMNS")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environ |= {"TASKAPI_HOME": str(home), "IPYTHONDIR": str(folder / "ipython")}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=environ, cwd=str(folder))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def send(self, code: str) -> str:
        return str(self.client.execute(code, allow_stdin=False))

    def receive(self) -> dict[str, Any]:
        return dict(self.client.get_iopub_msg(timeout=60))

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


class Served(Kernel):
    """A kernel of a Jupyter server."""

    def __init__(self, server: LiveServer, folder: Path) -> None:
        self.server, self.folder = server, folder
        started = requests.post(f"{server.url}api/kernels", json={"name": "python3"}, headers=server.auth, timeout=60)
        started.raise_for_status()
        self.url = f"{server.url}api/kernels/{started.json()['id']}"
        url = f"ws://{urlsplit(server.url).netloc}{urlsplit(self.url).path}/channels"
        self.socket = websocket.create_connection(url, header=server.auth, timeout=60)

    def send(self, code: str) -> str:
        message = uuid.uuid4().hex
        header = {"msg_id": message, "msg_type": "execute_request", "session": "test", "username": "", "version": "5.3"}
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        request = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        self.socket.send(json.dumps(request))
        return message

    def receive(self) -> dict[str, Any]:
        return dict(json.loads(self.socket.recv()))

    def interrupt(self) -> None:
        requests.post(f"{self.url}/interrupt", headers=self.server.auth, timeout=60).raise_for_status()

    def close(self) -> None:
        self.socket.close()
        requests.delete(self.url, headers=self.server.auth, timeout=60)
