"""Kernels to run cells in: one that a Jupyter server started, and one that no server did."""

from __future__ import annotations

import json
import os
import re
import uuid
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import websocket
from jupyter_client import KernelManager

ALL_AT_ONCE = "stop_grace: 1\ncpus: 8\n"  # config.yaml with which all jobs of a test run at once, on any machine

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
    parts: list[str] = field(default_factory=list)  # as text, whatever it was

    def take(self, message: dict[str, Any]) -> bool:
        """Keep a message; return True if the cell is done."""
        kind, content = message["header"]["msg_type"], message["content"]
        if kind == "stream":
            self.text += content["text"]
            self.parts.append(content["text"])
        elif kind in ("display_data", "update_display_data"):
            date = message["header"]["date"]
            when = date if isinstance(date, datetime) else datetime.fromisoformat(date.replace("Z", "+00:00"))
            self.pictures.append((content["transient"].get("display_id", ""), content["data"], when))
            self.parts.append(content["data"].get("text/plain", ""))
        elif kind == "execute_result":
            self.text += content["data"]["text/plain"] + "\n"
            self.parts.append(content["data"]["text/plain"])
        elif kind == "error":
            self.error += re.sub("\x1b\\[[0-9;]*m", "", "\n".join(content["traceback"]))
            self.parts += content["traceback"]
        return bool(kind == "status" and content["execution_state"] == "idle")

    @property
    def bars(self) -> list[str]:
        """Return the ids of the displays that were drawn in."""
        return list(dict.fromkeys(picture[0] for picture in self.pictures))


class Kernel:
    """A kernel that runs cells."""

    folder: Path

    def show(self, code: str, interrupt: bool | str = False) -> Shown:
        """Run a cell; interrupt it once when a bar is drawn, or when so much was printed, where that is asked for."""
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

    def run(self, code: str) -> str:
        """Run a cell; return what it printed and showed, and its error, as text."""
        return "\n".join(self.show(code).parts)

    def submit(self, count: int) -> tuple[Path, list[str]]:
        """Start jobs that run until a file is there; return it and their ids."""
        go = self.folder / uuid.uuid4().hex
        return go, self.show(SUBMIT.format(path=str(go), count=count)).text.split()

    def send(self, code: str) -> str:
        raise NotImplementedError

    def receive(self) -> dict[str, Any]:
        raise NotImplementedError

    def interrupt(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


class Plain(Kernel):
    """A kernel that no server started, as nbclient and VS Code have it; of the home of this process, or another."""

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder = folder
        hidden = ("TASKAPI_", "JPY_", "JUPYTERHUB_", "COLUMNS")
        environ = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
        environ |= {"TASKAPI_HOME": str(home or os.environ["TASKAPI_HOME"]), "IPYTHONDIR": str(folder / "ipython")}
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
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


class Reachable(Protocol):
    """A Jupyter server: one of the tests', or a user's behind a Hub."""

    @property
    def url(self) -> str: ...
    @property
    def auth(self) -> dict[str, str]: ...


class Served(Kernel):
    """A kernel of a Jupyter server, spoken to as JupyterLab does."""

    def __init__(self, server: Reachable, folder: Path | None = None, notebook: str | None = None) -> None:
        """Start one, of a notebook at a path where one is given."""
        if folder is not None:
            self.folder = folder
        body: dict[str, Any] = {"name": "python3"}
        if notebook is not None:
            body = {"name": notebook, "path": notebook, "type": "notebook", "kernel": body}
        route = "kernels" if notebook is None else "sessions"
        started = requests.post(f"{server.url}api/{route}", json=body, headers=server.auth, timeout=60)
        started.raise_for_status()
        self.auth = server.auth
        self.connect(
            server.url, (started.json() if notebook is None else started.json()["kernel"])["id"], header=self.auth
        )

    def connect(self, server: str, kernel_id: str, **credentials: Any) -> None:
        """Open the websocket of a kernel; credentials are a header or a cookie."""
        self.id, self.url = kernel_id, f"{server}api/kernels/{kernel_id}"
        url = f"ws://{urlsplit(self.url).netloc}{urlsplit(self.url).path}/channels"
        self.socket = websocket.create_connection(url, timeout=60, **credentials)

    def send(self, code: str) -> str:
        content = {"code": code, "silent": False, "store_history": True, "allow_stdin": False, "stop_on_error": True}
        return self.message("execute_request", content)

    def message(self, kind: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a message; return its id."""
        header = {"msg_id": uuid.uuid4().hex, "msg_type": kind, "session": "test", "username": "", "version": "5.3"}
        whole = {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": channel}
        self.socket.send(json.dumps(whole))
        return header["msg_id"]

    def receive(self) -> dict[str, Any]:
        return dict(json.loads(self.socket.recv()))

    def interrupt(self) -> None:
        requests.post(f"{self.url}/interrupt", headers=self.auth, timeout=60).raise_for_status()

    def close(self) -> None:
        """Close the page; the kernel ends with its server."""
        self.socket.close()
