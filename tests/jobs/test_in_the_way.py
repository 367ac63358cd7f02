"""What stands in a home where something of ours has to be: each verb answers with a sentence, and nothing is half done."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import ECHO, PATIENCE, WAITING, request_for, until
from support.homes import processes, stop_supervisor
from support.users import NOBODY, as_user, made, root
from taskapi_jupyter.client.environments_file import EnvironmentFile
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import TaskAPIError, Unavailable
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui import cli, doctor

FILES = ("taskapi.db", "taskapi.db-wal", "taskapi.db-shm", "config.yaml", "environments.yaml", "supervisor.lock")
OTHERS = ("bell", "supervisor.log", "retention.lock", "taskapi.db.lock", "engine.json", "wake", "successor.json")
FOLDERS = ("jobs", "apis", "projects", "servers", "ray")
NAMES = (*FILES, *OTHERS, *FOLDERS)


def a_folder(path: Path) -> None:
    path.mkdir()


def a_full_folder(path: Path) -> None:
    path.mkdir()
    (path / "file").touch()


def a_fifo(path: Path) -> None:
    os.mkfifo(path)


def a_socket(path: Path) -> None:
    here = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(here)


def a_dangling_link(path: Path) -> None:
    path.symlink_to("../nowhere")


def a_link_to_a_folder(path: Path) -> None:
    (path.parent.parent / "elsewhere").mkdir(exist_ok=True)
    path.symlink_to("../elsewhere")


def a_link_to_a_file(path: Path) -> None:
    (path.parent.parent / "elsewhere.txt").touch()
    path.symlink_to("../elsewhere.txt")


def a_link_to_itself(path: Path) -> None:
    path.symlink_to(path.name)


def a_huge_file(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 30)


THINGS = (
    a_folder,
    a_full_folder,
    a_fifo,
    a_socket,
    a_dangling_link,
    a_link_to_a_folder,
    a_link_to_a_file,
    a_link_to_itself,
    a_huge_file,
)
SOME = (a_folder, a_link_to_itself)
ALL_OF_THEM = ("config.yaml", "supervisor.lock", "jobs")


@pytest.fixture
def ready(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a home with an API, ``echo``, and an ended job."""
    home = tmp_path / "home"
    monkeypatch.setenv("TASKAPI_HOME", str(home))
    with contextlib.closing(Service(home)) as service:
        service.deploy_request(request_for("echo", ECHO))
        service.submit("echo").wait(PATIENCE)
    stop_supervisor(home)
    yield home
    # What stands there may keep a supervisor from leaving.
    while left := processes(home):
        for one in left:
            with contextlib.suppress(psutil.NoSuchProcess):
                one.kill()


def put(make: Callable[[Path], None], path: Path) -> Path | None:
    """Make something in a place; return where what was there is now."""
    aside = None
    if os.path.lexists(path):
        aside = path.rename(path.parent.parent / f"{path.name}.aside")
    make(path)
    return aside


def told(call: Callable[[], Any]) -> Any:
    """Return what a call returns; None where it is refused, which has to be in a sentence."""
    try:
        return call()
    except TaskAPIError as error:
        assert str(error)
        assert "\n" not in str(error)
        assert len(str(error)) < 600
        return None


def all_verbs(service: Service, ended: str) -> list[Job]:
    """Call each verb; return the jobs that were accepted."""
    told(lambda: service.deploy_request(request_for("other", ECHO + "\n")))
    accepted = [told(lambda: service.submit("echo", {"a": 1}))]
    told(service.get)
    told(lambda: service.get("echo"))
    told(lambda: service.get("echo", ended))
    told(service.jobs)
    told(lambda: service.log_chunk(ended))
    told(lambda: service.files(ended))
    told(lambda: service.result(ended))
    told(lambda: service.stop(ended))
    told(service.in_progress)
    told(lambda: service.delete("other"))
    told(lambda: EnvironmentFile(service.home).read())
    told(lambda: EnvironmentFile(service.home).set_default("local"))
    return [job for job in accepted if job is not None]


def stored(path: Path) -> int:
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM jobs").fetchone()[0])


@pytest.mark.parametrize(
    ("name", "make"),
    [(name, make) for name in NAMES for make in (THINGS if name in ALL_OF_THEM else SOME)],
    ids=lambda value: value if isinstance(value, str) else value.__name__,
)
def test_each_verb_answers(ready: Path, name: str, make: Callable[[Path], None]) -> None:
    service = Service(ready)
    (ended,) = service.jobs()
    database = ready / "taskapi.db"
    if name in ("taskapi.db-wal", "taskapi.db-shm"):  # of a database that is open they are not to be moved
        service.close()
    else:
        before = stored(database)
    aside = put(make, ready / name)
    if name == "taskapi.db" and aside is not None:
        database = aside
    doctor.problems(ready)
    accepted = all_verbs(service, ended.id)  # which had the home open
    service.close()
    opened = told(lambda: Service(ready))
    if opened is not None:
        accepted += all_verbs(opened, ended.id)
    for verb in ("get", "doctor"):
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as said:
            assert cli.main([verb]) in (0, 1)
        assert "Traceback" not in said.getvalue()
    if name not in ("taskapi.db-wal", "taskapi.db-shm"):
        assert stored(database) <= before + len(accepted)  # what was refused is not stored
    for job in accepted if (name, make.__name__[-6:]) != ("apis", "folder") else ():  # which took the API's files along
        assert job.wait(PATIENCE).status == "succeeded", job.reason
    if opened is not None:
        told(opened.purge)
        opened.close()
    log = ready / "supervisor.log"
    if log.is_file() and name != "supervisor.log":
        assert "Traceback" not in log.read_text()
    elsewhere = ready.parent / "elsewhere"
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []
    assert not (ready.parent / "nowhere").exists()


@pytest.mark.parametrize("make", [a_folder, a_fifo, a_socket, a_dangling_link, a_link_to_itself, a_huge_file])
def test_wake_is_replaced(ready: Path, make: Callable[[Path], None]) -> None:
    put(make, ready / "wake")
    with contextlib.closing(Service(ready)) as service:
        assert service.submit("echo").wait(PATIENCE).status == "succeeded"
    assert doctor.problems(ready) == []


@pytest.mark.parametrize("make", [None, a_folder, a_fifo, a_dangling_link], ids=["nothing", "folder", "fifo", "link"])
def test_wake_is_replaced_while_a_job_runs(ready: Path, make: Callable[[Path], None] | None) -> None:
    with contextlib.closing(Service(ready)) as service:
        service.deploy_request(request_for("waits", WAITING))
        waits = service.submit("waits", {"path": str(ready / "go")})
        until(lambda: waits.refresh().status == "running", "the job to run")
        (ready / "wake").unlink()
        if make is not None:
            make(ready / "wake")
        assert service.submit("echo").wait(PATIENCE).status == "succeeded"
        assert waits.refresh().status == "running"
        assert service.stop(waits)


def test_a_wake_that_cant_be_replaced_is_said_before_a_job_is_accepted(ready: Path) -> None:
    put(a_full_folder, ready / "wake")
    sentence = f"{ready / 'wake'} is a folder with something in it, where the supervisor has a FIFO: move it away"
    with contextlib.closing(Service(ready)) as service:
        for call in (lambda: service.submit("echo"), lambda: service.deploy_request(request_for("new", ECHO))):
            with pytest.raises(Unavailable) as caught:
                call()
            assert str(caught.value) == sentence
        assert len(service.jobs()) == 1
        assert [api.name for api in service.get()] == ["echo"]
    assert doctor.problems(ready) == [sentence]


@pytest.mark.parametrize(
    ("name", "make", "said"),
    [
        ("config.yaml", a_huge_file, "can't be read: it is larger than 1 MiB"),
        ("config.yaml", a_fifo, "can't be read: it is a FIFO, not a file"),
        ("environments.yaml", a_link_to_a_file, "can't be read: it is a link, not a file"),
        ("jobs", a_fifo, "is a FIFO, where a folder has to be: move it away"),
        ("supervisor.lock", a_socket, "is a socket, where a file has to be: move it away"),
        ("supervisor.log", a_folder, "is a folder, where a file has to be: move it away"),
        ("taskapi.db", a_link_to_itself, "is a link, where a file has to be: move it away"),
    ],
)
def test_doctor_names_it(ready: Path, name: str, make: Callable[[Path], None], said: str) -> None:
    put(make, ready / name)
    assert [one for one in doctor.problems(ready) if one.startswith(f"{ready / name} {said}")] != []


@pytest.mark.parametrize("make", THINGS, ids=lambda make: make.__name__)
def test_in_the_place_of_the_home(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None]
) -> None:
    home = tmp_path / "above" / "home"
    monkeypatch.setenv("TASKAPI_HOME", str(home))
    home.parent.mkdir()
    make(home)
    doctor.problems(home)
    service = told(lambda: Service(home))
    told(lambda: EnvironmentFile(home).read())
    told(lambda: EnvironmentFile(home).set_default("local"))
    assert (service is not None) == home.is_dir()
    if service is not None:
        service.close()
    assert not (tmp_path / "nowhere").exists()


@root
@pytest.mark.parametrize("name", NAMES)
def test_unreadable(place: Path, name: str) -> None:
    home = made(place / "home", NOBODY)

    def use() -> str:
        service = Service(home)
        request = request_for("echo", ECHO)
        request.python, request.cwd = None, str(place)
        service.deploy_request(request)
        path = home / name
        if not path.exists():
            path.mkdir() if name in FOLDERS else path.touch()
        path.chmod(0)
        before = stored(home / "taskapi.db") if not name.startswith("taskapi.db") else 0
        accepted = told(lambda: service.submit("echo"))
        if name in ("jobs", "apis", "supervisor.lock", "config.yaml"):
            assert accepted is None or name == "config.yaml"
        if accepted is None and not name.startswith("taskapi.db"):
            assert stored(home / "taskapi.db") == before
        for call in (service.get, service.jobs, lambda: service.deploy_request(request), service.purge):
            told(call)
        service.close()
        told(lambda: Service(home).get())
        told(lambda: EnvironmentFile(home).read())
        return " ".join(doctor.problems(home))

    said = as_user(NOBODY, use)
    if name in ("jobs", "apis", "supervisor.lock", "config.yaml", "environments.yaml", "taskapi.db", "engine.json"):
        assert str(home / name) in said


@pytest.mark.parametrize("make", [a_full_folder, a_fifo, a_link_to_itself, a_huge_file], ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "name", ["taskapi.db", "config.yaml", "environments.yaml", "supervisor.lock", "wake", "jobs", "apis"]
)
async def test_the_routes_answer(call: Any, home: Path, name: str, make: Callable[[Path], None]) -> None:
    deployed = {"spec": {"name": "echo", "kind": "TaskAPI", "definition": {"path": "task.py"}}, "source": ECHO}
    assert (await call("POST", "local/deploy", deployed)).status == 200
    aside = put(make, home / name)
    answers = {
        path: await call(method, path, body)
        for method, path, body in (
            ("POST", "local/deploy", deployed),
            ("POST", "local/tasks/echo", {}),
            ("GET", "local/tasks/echo?jobID=0123456789abcdef", None),
            ("GET", "local/get", None),
            ("GET", "local/get/echo", None),
            ("GET", "local/jobs", None),
            ("GET", "environments", None),
            ("DELETE", "local/delete/echo", None),
        )
    }
    for path, answer in answers.items():
        assert answer.status != 500, (path, answer.body)
        assert json.loads(answer.body) is not None
    if os.path.lexists(home / name):
        shutil.rmtree(home / name) if (home / name).is_dir() else (home / name).unlink()
    if aside is not None:
        aside.rename(home / name)
