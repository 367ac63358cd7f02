"""A real Ray cluster of one machine, with a head that can be killed and started again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path

import psutil
import requests

from support import until
from support.servers import reserved_port
from taskapi_jupyter.core import folders

CPUS = 2


def program() -> str | None:
    """Return where Ray's own program is: not in the environment that the tests run in, which has no need of Ray."""
    return os.environ.get("TASKAPI_RAY") or shutil.which("ray")


class Head:
    """A cluster of two CPUs, on the loopback interface.

    ``streams`` is how many logs it sends at a time: whoever holds on to one for longer than its job is found out soon.
    """

    def __init__(self, streams: int = 20) -> None:
        self.streams = streams
        self.folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # its sockets' names may not be long
        self.port, self.dashboard, self.agent, self.client = (reserved_port() for _ in range(4))
        self.address = f"http://127.0.0.1:{self.dashboard}"

    def start(self) -> None:
        """Start it, and wait until it can take jobs."""
        options = {
            "port": self.port,
            "dashboard-port": self.dashboard,
            "dashboard-agent-listen-port": self.agent,
            "ray-client-server-port": self.client,
            "node-ip-address": "127.0.0.2",  # 127.0.0.1 would be replaced by the machine's own address
            "dashboard-host": "127.0.0.1",
            "num-cpus": CPUS,
            "object-store-memory": 200_000_000,
            "temp-dir": self.folder,
        }
        found = program()
        assert found is not None
        command = [found, "start", "--head", "--disable-usage-stats"]
        environ = {name: value for name, value in os.environ.items() if not name.startswith(("TASKAPI_", "JPY_"))}
        environ.pop("PYTHONPATH", None)
        environ["RAY_STATE_SERVER_MAX_HTTP_REQUEST"] = str(self.streams)
        environ["PATH"] = os.pathsep.join([str(Path(found).absolute().parent), environ["PATH"]])
        told = subprocess.run(
            command + [f"--{name}={value}" for name, value in options.items()],
            env=environ,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=100,
        )
        assert told.returncode == 0, told.stdout + told.stderr
        until(self.takes_jobs, "Ray to take jobs", 60)

    def takes_jobs(self) -> bool:
        """Say whether its dashboard answers, and its agent with it."""
        try:
            there = requests.get(f"{self.address}/api/jobs/", timeout=5).ok
            return there and requests.get(f"http://127.0.0.1:{self.agent}/api/local_raylet_healthz", timeout=5).ok
        except requests.RequestException:
            return False

    def processes(self) -> list[psutil.Process]:
        """Return all that belongs to it, and what its jobs are."""
        found = []
        for one in psutil.process_iter():
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
                if str(self.folder) in " ".join(one.cmdline()) or str(self.folder) in one.environ().get(
                    "RAY_ADDRESS", ""
                ) + (one.cwd() if one.pid != os.getpid() else ""):
                    found.append(one)
        return found

    def kill(self) -> None:
        """Kill it, with all that runs on it."""
        until(lambda: not self._kill_some(), "Ray to be gone")

    def _kill_some(self) -> list[psutil.Process]:
        found = self.processes()
        for one in found:
            with suppress(psutil.NoSuchProcess):
                one.send_signal(signal.SIGKILL)
        return [one for one in found if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]

    def remove(self) -> None:
        """Kill it, and remove what it left."""
        self.kill()
        folders.remove(self.folder)
