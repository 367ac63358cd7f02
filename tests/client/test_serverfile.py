"""``servers/PID.json``: which servers use a home, and what a terminal shows of them."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import until
from support.servers import LiveServer, start_server, stop_server
from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import host
from taskapi_jupyter.core.process import start_time
from taskapi_jupyter.service import servers
from taskapi_jupyter.service.service import Service


def put(home: Path, pid: int | str, content: Any) -> Path:
    """Write a file as a server would, with any content."""
    (home / "servers").mkdir(mode=0o700, exist_ok=True)
    path = home / "servers" / f"{pid}.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def lives(url: str = "http://127.0.0.1:8888/") -> dict[str, Any]:
    """Return the record of a server that lives: this process."""
    return {"url": url, "pid": os.getpid(), "start_time": start_time(os.getpid())}


def terminal(home: Path, *arguments: str, **environ: str) -> str:
    """Return what a terminal prints that no server knows of."""
    hidden = ("TASKAPI_", "JPY_", "JUPYTERHUB_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        [sys.executable, "-m", "taskapi_jupyter.ui.cli", *arguments],
        env={**inherited, "TASKAPI_HOME": str(home), **environ},
        cwd=home.parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    return done.stdout


def shown(home: Path, *arguments: str) -> Any:
    """Return what a terminal shows, decoded."""
    return json.loads(terminal(home, *arguments, "-o", "json"))


def test_it_is_for_its_owner_and_says_where_and_who(home: Path) -> None:
    old = os.umask(0)
    try:
        servers.write(home, "http://127.0.0.1:8888/base/")
    finally:
        os.umask(old)
    path = home / "servers" / f"{os.getpid()}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert json.loads(path.read_text()) == lives("http://127.0.0.1:8888/base/")
    assert [one.name for one in path.parent.iterdir()] == [path.name]
    assert servers.running(home) == [("http://127.0.0.1:8888/base/", os.getpid())]
    servers.write(home, "http://127.0.0.1:9999")
    assert servers.running(home) == [("http://127.0.0.1:9999/", os.getpid())]
    servers.remove(home)
    servers.remove(home)
    assert servers.running(home) == []


def test_the_newest_that_lives_counts_and_files_of_the_dead_are_removed(home: Path) -> None:
    assert servers.running(home) == []  # no folder
    processes = []
    for _ in range(2):
        processes.append(subprocess.Popen(["sleep", "60"]))
        pid, before = processes[-1].pid, start_time(processes[-1].pid)
        until(lambda at=before: float(host.boottime()) * os.sysconf("SC_CLK_TCK") > float(at or 0) + 2, "a tick")
        put(home, pid, {"url": f"http://127.0.0.1:{pid}/", "pid": pid, "start_time": before})
    old, new = (process.pid for process in processes)
    other = put(home, os.getpid(), {**lives(), "start_time": "1"})  # another process has its number now
    assert [one.pid for one in servers.running(home)] == [new, old]
    assert not other.exists()
    service = Service(home)
    assert service._endpoint("train") == f"http://127.0.0.1:{new}/taskapi/local/tasks/train"
    processes[1].kill()  # and nobody has asked yet how it ended
    until(lambda: [one.pid for one in servers.running(home)] == [old], "the killed one to be gone")
    until(lambda: service._endpoint("train") == f"http://127.0.0.1:{old}/taskapi/local/tasks/train", "the older one")
    assert not (home / "servers" / f"{new}.json").exists()
    processes[0].kill()
    for process in processes:
        process.wait()
    until(lambda: service._endpoint("train") is None, "none to be left")
    assert list((home / "servers").iterdir()) == []
    service.close()


@pytest.mark.parametrize(
    "content",
    [
        *("", "{}", "[]", "null", "{", "[" * 4000, '"text"', "1" * 4000, "\x00"),
        *({**lives(), "pid": str(os.getpid())}, {**lives(), "pid": True}, {**lives(), "pid": 2**70}),
        *({**lives(), "start_time": 5}, {"url": "http://127.0.0.1/"}, {**lives(), "padding": "x" * 5000}),
        *(lives("file:///etc/passwd"), lives("http://user:secret@127.0.0.1/"), lives("http://127.0.0.1/?token=1")),
        *(lives("http://127.0.0.1:port/"), lives("http://[/"), lives("http:///"), lives("javascript:alert(1)//")),
        *(lives("http://127.0.0.1/\x1b[2J"), lives('http://127.0.0.1/"><script>'), lives("http://127.0.0.1/ö b")),
        lives(5),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_file_of_a_server_is_ignored(home: Path, content: Any) -> None:
    path = put(home, os.getpid(), content)
    assert servers.running(home) == []
    assert path.exists()


def test_what_stands_there_instead_of_a_file_is_ignored(home: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside.json"
    outside.write_text(json.dumps(lives()))
    folder = home / "servers"
    folder.mkdir()
    mine = folder / f"{os.getpid()}.json"
    mine.symlink_to(outside)
    os.mkfifo(folder / "1.json")
    (folder / "999999999.json").mkdir()
    (folder / f"{os.getpid()}x.json").write_text(json.dumps(lives()))
    (folder / f"0{os.getpid()}.json").write_text(json.dumps(lives()))
    assert servers.running(home) == []
    assert len(list(folder.iterdir())) == 5
    assert outside.exists()
    mine.unlink()
    put(home, os.getpid(), lives())
    assert len(servers.running(home)) == 1
    aside = folder.rename(tmp_path / "aside")
    folder.symlink_to(aside)
    assert servers.running(home) == []
    folder.unlink()
    folder.write_text("")
    assert servers.running(home) == []
    with pytest.raises(OSError, match="servers"):
        servers.write(home, "http://127.0.0.1/")


def test_a_terminal_shows_the_endpoint_of_a_running_server(tmp_path: Path) -> None:
    server = start_server(tmp_path)
    (tmp_path / "task.py").write_text("def run(config):\n    return 1\n")
    (tmp_path / "cortex.yaml").write_text("- {name: train, kind: TaskAPI, definition: {path: task.py}}\n")
    endpoint = f"{server.taskapi}/tasks/train"
    path = server.home / "servers" / f"{server.process.pid}.json"
    until(path.exists, "the server's file")
    record = json.loads(path.read_text())
    assert record == {
        "url": server.url,
        "pid": server.process.pid,
        "start_time": start_time(server.process.pid),
    }
    assert server.token not in path.read_text()
    assert shown(server.home, "deploy", str(tmp_path / "cortex.yaml"))[0]["api"]["endpoint"] == endpoint
    assert shown(server.home, "get", "train")[0]["endpoint"] == endpoint
    job = shown(server.home, "submit", "train", "--wait")
    assert job["endpoint"] == f"{endpoint}?jobID={job['job_status']['job_id']}"

    facts = json.loads(terminal(server.home, "doctor", "-o", "json", JUPYTER_RUNTIME_DIR=str(tmp_path / "runtime")))
    assert facts["server"] == f"{server.url} (taskapi_jupyter {__version__})"
    assert facts["supervisor"].startswith((f"taskapi_jupyter {__version__} (process ", "none running"))
    assert json.loads(terminal(server.home, "doctor", "-o", "json"))["server"] == server.url  # its token is not known

    path.unlink()  # it comes back
    until(path.exists, "the server's file")
    server.process.terminate()
    server.process.wait()
    assert not path.exists()
    assert shown(server.home, "get", "train")[0]["endpoint"] is None

    again = start_server(tmp_path)
    until(lambda: servers.running(again.home), "the server's file")
    assert shown(again.home, "get", "train")[0]["endpoint"] == f"{again.taskapi}/tasks/train"
    again.process.send_signal(signal.SIGKILL)
    again.process.wait()
    assert shown(again.home, "get", "train")[0]["endpoint"] is None
    assert list((again.home / "servers").iterdir()) == []
    stop_server(again)


def test_a_server_goes_on_where_its_home_takes_no_file(live_server: LiveServer, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir(mode=0o700)
    (tmp_path / "home" / "servers").write_text("")
    server = start_server(tmp_path)
    assert server.fetch("GET", "get").json() == []
    until(lambda: "servers" in (tmp_path / "server.log").read_text(), "a warning")
    assert (tmp_path / "server.log").read_text().count("don't learn of this server") == 1
    stop_server(server)
