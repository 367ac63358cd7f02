"""Where a container's first process is a Jupyter server, or uses the package: nothing of ours stays a zombie there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import psutil
import pytest

from support import IMPORTS, PATIENCE, until
from support.homes import clean
from support.namespaces import children, run, unshared
from support.servers import LiveServer, reserved_port
from taskapi_jupyter.core import host
from taskapi_jupyter.runner import reaping
from taskapi_jupyter.service.service import Service

pytestmark = pytest.mark.skipif(not host.LINUX, reason="needs Linux's pid namespaces")

NAMESPACE = ["--pid", "--fork", "--kill-child", "--mount-proc"]


def supervisors(pid: int) -> set[int]:
    return {child for child, name in children(pid).items() if name == reaping.SUPERVISOR}


@pytest.mark.timeout(300)
def test_a_server_that_is_the_first_process(tmp_path: Path) -> None:
    if shutil.which("nsenter") is None:
        pytest.skip("no nsenter here")
    namespace = unshared(*NAMESPACE)
    if "--user" in namespace:
        pytest.skip("needs a pid namespace that can be entered")
    home, port = tmp_path / "home", reserved_port()
    environ = {
        **os.environ,
        "TASKAPI_HOME": str(home),
        "JUPYTER_NO_CONFIG": "1",
        **{f"JUPYTER_{name}_DIR": str(tmp_path / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")},
    }
    options = ["--no-browser", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0", "--allow-root"]
    options += ["--IdentityProvider.token=t", "--ServerApp.jpserver_extensions=taskapi_jupyter=True"]
    command = [*namespace, sys.executable, "-m", "jupyter_server", *options]
    with (tmp_path / "log").open("wb") as log:
        outside = subprocess.Popen(command, env=environ, cwd=tmp_path, stdout=log, stderr=log)
    try:
        server = LiveServer(f"http://127.0.0.1:{port}/", "t", home, outside)
        until(lambda: answers(server), "the server")
        (first,) = psutil.Process(outside.pid).children()
        (tmp_path / "one.py").write_text("def task(config):\n    return 1\n")
        enter = [
            "nsenter",
            "--target",
            str(first.pid),
            "--pid",
            "--mount",
            sys.executable,
            "-m",
            "taskapi_jupyter.ui.cli",
        ]
        subprocess.run([*enter, "deploy", str(tmp_path / "one.py")], env=environ, cwd=tmp_path, check=True)
        had = set[int]()
        for _ in range(3):
            # From a terminal, each has another supervisor, which outlives it.
            subprocess.run([*enter, "submit", "one"], env=environ, cwd=tmp_path, check=True, timeout=PATIENCE)
            had |= until(lambda: supervisors(first.pid), "the supervisor to be an orphan")
            until(lambda: not supervisors(first.pid), "it to be gone")
        assert len(had) == 3
        until(lambda: children(first.pid) == {}, f"no zombie: {children(first.pid)}")
    finally:
        outside.kill()
        outside.wait()


def answers(server: LiveServer) -> bool:
    import requests

    try:
        return server.fetch("GET", "verifycortex").ok
    except requests.ConnectionError:
        return False


#: The first process is a program that uses the package.
FIRST = """
import signal, subprocess
from taskapi_jupyter.core import process
home = Path(sys.argv[1])
assert os.getpid() == 1
service = Service(home)
service.deploy_request(request_for("waits", WAITING))
theirs = subprocess.Popen(["true"])  # whose status is for who asks for it
named = subprocess.Popen(["sh", "-c", "exit 7"])
job = service.submit("waits", {"path": str(home / "go")})
until(lambda: job.logs(), "it to run")
watcher = json.loads((home / "jobs" / job.id / "claim").read_bytes())["pid"]
os.kill(json.loads((home / "supervisor.lock").read_bytes())["pid"], signal.SIGKILL)
until(lambda: process.stat(watcher)[1] == "1", "the watcher to be an orphan")
submit = "import sys; from taskapi_jupyter.service.service import Service; Service(sys.argv[1]).submit('waits', {'path': '/'})"
for _ in range(6):
    subprocess.run([sys.executable, "-c", submit, str(home)], check=True)
(home / "go").touch()
for one in service.jobs():
    assert one.wait(PATIENCE).status == "succeeded"
until(lambda: set(children(1)) == {theirs.pid, named.pid}, "no zombie of ours")
assert process.stat(theirs.pid)[0] == process.stat(named.pid)[0] == "Z"  # nobody else's is taken
assert (theirs.wait(), named.wait()) == (0, 7)
"""


def test_a_program_that_is_the_first_process(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    run(unshared(*NAMESPACE), FIRST, home)
    clean(home)


def test_a_subreaper(home: Path) -> None:
    """A service manager's first process in a session, say, that is not a container's."""
    code = f"""
{IMPORTS}import ctypes, os, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
from support.within import *
from taskapi_jupyter.runner import reaping
service = Service({str(home)!r})
service.deploy_request(request_for("one", "def task(config): pass"))
submit = "import sys; from taskapi_jupyter.service.service import Service; Service(sys.argv[1]).submit('one')"
subprocess.run([sys.executable, "-c", submit, {str(home)!r}], check=True)
until(lambda: reaping.SUPERVISOR in children(os.getpid()).values(), "an orphan")
until(lambda: not children(os.getpid()), "it to be reaped")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_others_start_no_thread(service: Service) -> None:
    service.jobs()
    assert "taskapi-reaping" not in [one.name for one in threading.enumerate()]
