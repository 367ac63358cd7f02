"""The kernel of a notebook's job. Imports hardly anything: a cell waits for the kernel, and that for these imports."""

from __future__ import annotations

import json
import os
import sys
from contextlib import suppress
from typing import Any

from .ends import CannotStart

LONGEST = 90  # bytes of a socket's path; the system takes 104 or 108
CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
TERM, INT, KILL, PIPE, XFSZ = 15, 2, 9, 13, 25  # `signal` makes enums of all that is in it


class Kernel:
    """A kernel's process and how it is spoken to; ``folder`` is where its sockets and its connection file are."""

    def __init__(self, settings: dict[str, Any], folder: str) -> None:
        self.name: str = settings["name"]
        spec = settings.get("spec") or self._spec(settings["folder"])
        self.language: str = spec.get("language") or settings.get("language") or ""
        self.by_message = spec.get("interrupt_mode") == "message"
        self.progress = os.path.join(folder, "progress.json")  # what the task says of its own progress
        self.connection = self._connection(folder)
        file = os.path.join(folder, "connection.json")
        with open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as opened:
            json.dump(self.connection, opened)
        command = self._command(spec["argv"], file, settings["folder"])
        try:
            self.pid = os.posix_spawnp(
                command[0],
                command,
                self._environment(spec.get("env") or {}),
                file_actions=[(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)],
                setsid=True,  # an interrupt is for it and what it started, and not for us
                setsigdef=[PIPE, XFSZ],  # which Python ignores
            )
        except OSError as error:
            raise CannotStart(f"the kernel {self.name} can't be started: {command[0]}: {error.strerror}") from None
        self.code: int | None = None  # its exit code once it has ended; negative: the signal
        self.pidfd = None
        with suppress(AttributeError, OSError):  # off Linux, or no descriptor: nbclient looks each second
            self.pidfd = os.pidfd_open(self.pid)

    def _spec(self, folder: str) -> dict[str, Any]:
        file = os.path.join(folder, "kernel.json")
        try:
            with open(file, encoding="utf-8") as opened:
                spec: dict[str, Any] = json.load(opened)
            provisioner = (spec.get("metadata") or {}).get("kernel_provisioner") or {}
            spec["argv"][0]
        except OSError as error:
            raise CannotStart(f"the kernel {self.name} is gone: {file}: {error.strerror}") from None
        except (ValueError, TypeError, AttributeError, LookupError):
            raise CannotStart(f"the kernel {self.name} can't be started: {file} is no kernel specification") from None
        if provisioner.get("provisioner_name", "local-provisioner") != "local-provisioner":
            name = provisioner["provisioner_name"]
            raise CannotStart(f"the kernel {self.name} is started by {name}; a job starts kernels of this machine only")
        return spec

    def _connection(self, folder: str) -> dict[str, Any]:
        sockets = os.path.join(folder, "ipc")
        if len(os.fsencode(sockets)) + 2 <= LONGEST:
            transport, ip, ports = "ipc", sockets, list(range(1, 6))
        else:
            transport, ip, ports = "tcp", "127.0.0.1", free_ports()
        return {
            **{f"{channel}_port": port for channel, port in zip(CHANNELS, ports, strict=True)},
            "ip": ip,
            "key": os.urandom(16).hex(),
            "transport": transport,
            "signature_scheme": "hmac-sha256",
            "kernel_name": self.name,
        }

    def _command(self, argv: list[str], file: str, folder: str) -> list[str]:
        values = {"connection_file": file, "resource_dir": folder, "prefix": sys.prefix}
        command = [_filled(one, values) for one in argv]
        if command[0] in ("python", "python3", "python{}.{}".format(*sys.version_info)):
            command[0] = sys.executable  # as Jupyter does: a Python of that name need not have ipykernel
        if any("ipykernel" in word for word in command):
            command.append("--HistoryManager.hist_file=:memory:")  # a job's cells are none of the user's history
        return [os.path.expanduser(word) for word in command]

    def _environment(self, more: dict[str, str]) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONEXECUTABLE"}
        if more:
            from string import Template

            environment.update((name, Template(value).safe_substitute(os.environ)) for name, value in more.items())
        environment.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else a debugger that nobody uses warns
        environment.update(TASKAPI_PROGRESS=self.progress, JPY_PARENT_PID=str(os.getpid()))
        return environment

    def socket(self, channel: str) -> str | None:
        """Return the path of a channel's socket, None where it is a port."""
        port = self.connection[f"{channel}_port"]
        return f"{self.connection['ip']}-{port}" if self.connection["transport"] == "ipc" else None

    def alive(self) -> bool:
        """Whether its process has not ended."""
        if self.code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.code = os.waitstatus_to_exitcode(status)
        return self.code is None

    def signal(self, number: int) -> None:
        """Signal it and what it started."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def kill(self) -> None:
        """End it at once, and wait until its process is gone."""
        if self.alive():
            self.signal(KILL)
        self.wait()

    def wait(self) -> int:
        """Wait until its process is gone; return its exit code."""
        if self.code is None:
            self.code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.code


def _filled(word: str, values: dict[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def free_ports() -> list[int]:
    """Return five ports that nobody listens on just now."""
    import socket

    with_ports = [socket.socket() for _ in CHANNELS]
    for one in with_ports:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in with_ports]
    for one in with_ports:
        one.close()
    return ports
