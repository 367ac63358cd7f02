"""How a task is started: its command, its variables, its job file, its process. Standard library only."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from taskapi_jupyter.core import host, process
from taskapi_jupyter.core.fault_points import fault_point
from taskapi_jupyter.core.paths import TASK_PATH, WORKER, HomePaths, JobPaths

from . import gpus
from .process_tree import bind_to_parent

#: Tells a cluster's entry point how long its job may still take; the task does not see it.
SECONDS_LEFT = "TASKAPI_SECONDS_LEFT"

#: When a schedule's job was to be submitted, in the zone of the schedule; other jobs have none.
SCHEDULED_TIME = "TASKAPI_SCHEDULED_TIME"

#: Imports the harness by path, so that its compiled form is cached, and leaves no trace of that for the task to see.
START_HARNESS = "import sys;sys.path[0]=sys.argv[1];from harness import main;sys.modules.pop('harness');main();"

#: The same for a notebook, whose runner is a package beside the harness.
START_NOTEBOOK = "import sys;sys.path[0]=sys.argv[1];from notebook_runner.main import main;main()"

#: What a notebook's runner is told of the limits, and what they are where an older supervisor does not know them.
NOTEBOOK_LIMITS = {"log_max_bytes": 64 << 20, "stop_grace": 10.0, "keep_kernels": 2}

#: Signals that Python, or the process that started the supervisor, handles or ignores; a task gets the default again.
INHERITED = (
    *(signal.SIGTERM, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ),
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGUSR1),
)


def task_command(
    job: Mapping[str, Any], launch: Mapping[str, Any], apis: str, limits: Mapping[str, Any] | None = None
) -> list[str]:
    """Return what is executed: a command as given, or the API's interpreter on the harness.

    ``limits`` are those in force; a notebook's runner keeps to some of them.
    """
    if launch["kind"] == "command":
        return [str(word) for word in launch["argv"]]
    if launch["kind"] == "notebook":
        settings = {**launch["notebook"], "notebook": os.path.join(apis, job["api_id"], launch["file"])}
        settings.update((name, (limits or {}).get(name, value)) for name, value in NOTEBOOK_LIMITS.items())
        # -E, not -I: PYTHON* variables are for the kernel, and what a user has installed for himself is for both.
        return [launch["python"], "-E", "-c", START_NOTEBOOK, WORKER, json.dumps(settings)]
    return [
        launch["python"],
        "-c",
        START_HARNESS,
        WORKER,
        os.path.join(apis, job["api_id"]),
        launch["kind"],
        launch["file"],
        launch.get("module") or "",
        launch.get("attr") or "",
        launch.get("cloudpickle") or "",
        launch.get("origin") or "",
        *launch.get("sys_path", ()),
    ]


def task_environment(
    job: Mapping[str, Any], launch: Mapping[str, Any], home: str, machine_has_gpus: bool
) -> dict[str, str]:
    """Return the task's environment variables: those of its deploy, and those that identify the job."""
    environment = dict(launch["env"])
    folder = HomePaths(home).job(job["id"]).folder
    environment.update(
        TASKAPI_HOME=home,  # a task that submits jobs finds the APIs among which it was deployed
        TASKAPI_JOB_SPEC=JobPaths(folder).job,
        TASKAPI_JOB_ID=job["id"],
        TASKAPI_API_NAME=job["api_name"],
        TASKAPI_OUTPUT_DIR=JobPaths(folder).files,
    )
    if job.get("scheduled") is not None:
        environment[SCHEDULED_TIME] = scheduled_time(job["scheduled"], job.get("timezone"))
    if "TASKAPI_FAULTS" in os.environ:  # set by a test that kills processes at chosen moments
        environment["TASKAPI_FAULTS"] = os.environ["TASKAPI_FAULTS"]
    if job["gpus"] is not None or machine_has_gpus:
        environment[gpus.VARIABLE] = job.get("devices") or job["gpus"] or ""
    if launch["kind"] in ("command", "notebook"):
        environment["PYTHONUNBUFFERED"] = "1"
        # Found before installed packages this way; the modules in it give way to installed ones of their names.
        paths = [environment.get("PYTHONPATH", ""), TASK_PATH]
        environment["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    else:
        environment.pop("PYTHONUNBUFFERED", None)  # the harness sets it once its own interpreter has begun without it
    return environment


def scheduled_time(us: int, zone: str | None) -> str:
    """Return a time (µs) as ISO 8601 with the offset of a zone, that of UTC where the zone is not known here."""
    from datetime import datetime, timedelta, timezone

    moment = datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=us)
    if zone:
        from zoneinfo import ZoneInfo

        with suppress(Exception):  # OSError, ValueError, KeyError, or whatever is in a damaged file
            moment = moment.astimezone(ZoneInfo(zone))
    return moment.isoformat()


def job_file(job: Mapping[str, Any]) -> bytes:
    """Return what the task finds at ``TASKAPI_JOB_SPEC``: Cortex's job specification with the merged config."""
    known = {
        "job_id": job["id"],
        "api_name": job["api_name"],
        "kind": "TaskAPI",
        "workers": 1,
        "api_id": job["api_id"],
        "spec_id": job["spec_id"],
        "timeout": job["timeout"],
    }
    merged = job["merged"] or job["config"] or "{}"
    return json.dumps(known)[:-1].encode() + b', "config": ' + merged.encode() + b"}"


class Task(NamedTuple):
    """A task's main process, which waits to be told what to execute, and what its watcher reads."""

    pid: int
    output: int  # a descriptor: its standard output and error
    start_error: int  # a descriptor: an errno and a text, where the command could not be executed
    go: int  # a descriptor: by which it is told

    def waits(self) -> bool:
        """Whether it still waits: somebody may have killed it."""
        return os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def start(self, command: list[str], environment: Mapping[str, str], cwd: str) -> None:
        """Have it execute a command in a folder; how it ends tells where it can't."""
        data = json.dumps([command, dict(environment), cwd]).encode()
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self.go, data) :]
        os.close(self.go)


def fork_task(begin: Callable[[Mapping[str, str]], None] | None = None) -> Task:
    """Fork a task's main process, in a process group of its own, which dies when this watcher does.

    ``begin``, where a template forked this watcher, is called instead of the command and never returns.
    """
    output, write_end = pipe()
    start_error, error_end = pipe()
    told, go = os.pipe()
    os.set_blocking(write_end, True)
    me = os.getpid()
    pid = os.fork()
    if pid == 0:
        what, ready = "the task's process", False
        try:
            fault_point("task.forked")
            bind_to_parent(signal.SIGKILL)
            if os.getppid() != me and host.LINUX:
                os._exit(1)
            os.close(go)
            os.setpgid(0, 0)
            signal.set_wakeup_fd(-1)
            for number in INHERITED:
                signal.signal(number, signal.SIG_DFL)
            process.mask_signals(signal.SIG_SETMASK, ())
            os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
            for fd in (1, 2):
                os.dup2(write_end, fd)
            with open(told, "rb") as file:
                command, environment, cwd = json.loads(file.read() or os._exit(0))
            what = cwd
            try:
                os.chdir(cwd)
            except (FileNotFoundError, NotADirectoryError):  # Cortex's client deploys from a temporary folder
                instead = environment["TASKAPI_OUTPUT_DIR"]
                os.chdir(instead)
                note = f"taskapi: the folder {cwd} is gone; this task runs in {instead}\n"
                os.write(1, note.encode("utf-8", "surrogateescape"))
            what = command[0]
            fault_point("task.executing")
            if begin is None:
                os.execvpe(what, command, environment)  # noqa: S606
            ready = True
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            cause = error.errno if isinstance(error, OSError) else 0
            os.write(error_end, f"{cause} {what}: {why}".encode("utf-8", "replace"))
        finally:
            if not ready:
                os._exit(127)
        if begin is not None:
            begin(environment)
    for fd in (write_end, error_end, told):
        os.close(fd)
    return Task(pid, output, start_error, go)


def pipe() -> tuple[int, int]:
    """Return the ends of a pipe, neither of which blocks."""
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    os.set_blocking(write_end, False)
    return read_end, write_end
