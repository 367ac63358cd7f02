"""Who does what people do: a program that uses ``connect()``, a kernel with the magics."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from taskapi_jupyter.core.errors import TaskAPIError

TESTS = Path(__file__).resolve().parent.parent


class Gone(Exception):
    """Who was asked died before it answered."""


class Refused(Exception):
    """Who was asked could not do it; says why."""


def act() -> None:
    """Do what lines of standard input say, and answer with lines: ``[verb, arguments]``, ``{"ok" or "error": …}``."""
    from taskapi_jupyter import connect
    from taskapi_jupyter.core.contract import ScheduleRequest

    taskapi: Any = connect()
    verbs: dict[str, Callable[..., Any]] = {
        "deploy": lambda path: [one.message for one in taskapi.deploy(path)],
        "submit": lambda api, config, timeout: taskapi.submit(api, config, timeout).id,
        "chain": lambda api, config, options: taskapi.submit(api, config, **options).id,
        "map": lambda api, configs, options: _made(taskapi.map(api, configs, **options)),
        "schedule": lambda api, config, options: (
            taskapi.create_schedule(ScheduleRequest(api=api, config=config, **options)).name
        ),
        "run_schedule": lambda name: taskapi.run_schedule(name).id,
        "change_schedule": lambda name, changes: taskapi.update_schedule(name, changes).name,
        "unschedule": taskapi.delete_schedule,
        "stop_group": taskapi.stop_group,
        "stop": taskapi.stop,
        "forget": taskapi.forget,
        "delete": taskapi.delete,
        "purge": taskapi.purge,
    }
    for line in sys.stdin:
        verb, arguments = json.loads(line)
        try:
            answer = {"ok": verbs[verb](*arguments)}
        except TaskAPIError as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


def _made(group: Any) -> list[Any]:
    return [group.id, [job.id for job in group]]


class Program:
    """A program that uses ``connect()``."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        with (folder / "program.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "faults", "--act"],
                cwd=TESTS,
                env={**os.environ, **environ},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process.poll() is None else None

    def ask(self, verb: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        try:
            self.process.stdin.write(json.dumps([verb, arguments]) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except OSError:
            line = ""
        if not line.endswith("\n"):
            self.process.wait()
            raise Gone
        answer = json.loads(line)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["ok"]

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


#: What a notebook's cells do.
CELLS = {
    "deploy": "%taskapi deploy {0}",
    "submit": "_job = get_ipython().run_line_magic('taskapi', 'submit {0} --config $_config' + {2!r})\n_answer = _job.id",
    "chain": "_answer = taskapi_jupyter.connect().submit({0!r}, {1!r}, **{2!r}).id",
    "map": "_group = taskapi_jupyter.connect().map({0!r}, {1!r}, **{2!r})\n_answer = [_group.id, [job.id for job in _group]]",
    "schedule": "from taskapi_jupyter.core.contract import ScheduleRequest as _Made\n"
    "_answer = taskapi_jupyter.connect().create_schedule(_Made(api={0!r}, config={1!r}, **{2!r})).name",
    "run_schedule": "_answer = taskapi_jupyter.connect().run_schedule({0!r}).id",
    "change_schedule": "_answer = taskapi_jupyter.connect().update_schedule({0!r}, {1!r}).name",
    "unschedule": "_answer = taskapi_jupyter.connect().delete_schedule({0!r})",
    "stop_group": "%taskapi stop {0}\n_answer = 'stopped group {0}'",
    "stop": "%taskapi stop {0}\n_answer = 'stopped job {0}'",
    "forget": "_answer = taskapi_jupyter.connect().forget({0!r})",
    "delete": "%taskapi delete {0}",
    "purge": "_answer = taskapi_jupyter.connect().purge({0!r})",
}


class Kernel:
    """A kernel with the magics."""

    def __init__(self, folder: Path, environ: dict[str, str]) -> None:
        from jupyter_client.manager import KernelManager

        self.manager = KernelManager()
        environ = {**os.environ, **environ, "IPYTHONDIR": str(folder / "ipython")}
        with (folder / "kernel.log").open("ab") as log:
            self.manager.start_kernel(env=environ, stdout=log, stderr=log)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=180)
        self._run("%load_ext taskapi_jupyter\nimport taskapi_jupyter")

    @property
    def pid(self) -> int | None:
        provisioner = self.manager.provisioner
        return getattr(provisioner, "pid", None) if self.manager.is_alive() else None

    def ask(self, verb: str, *arguments: Any) -> Any:
        before = "_answer = None\n"
        if verb == "submit":
            api, config, timeout = arguments
            before += f"_config = {config!r}\n"
            arguments = (api, config, "" if timeout is None else f" --timeout {timeout}")
        return self._run(before + CELLS[verb].format(*arguments))

    def _run(self, code: str) -> Any:
        asked = self.client.execute(code, user_expressions={"answer": "__import__('json').dumps(_answer)"})
        while True:
            try:
                reply = self.client.get_shell_msg(timeout=0.2)
            except Exception as error:  # queue.Empty, or the channel broke with the kernel
                if not self.manager.is_alive():
                    raise Gone from error
                continue
            if reply["parent_header"].get("msg_id") == asked:
                break
        content = reply["content"]
        if content["status"] != "ok":
            raise Refused(f"{content['ename']}: {content['evalue']}")
        answer = content["user_expressions"]["answer"]
        return json.loads(eval(answer["data"]["text/plain"])) if answer["status"] == "ok" else None

    def close(self) -> None:
        self.client.stop_channels()
        with suppress(Exception):
            self.manager.shutdown_kernel(now=True)
