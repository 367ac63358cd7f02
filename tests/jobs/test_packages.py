"""Environments of packages: built once, before the first task that needs one, by its job; and what becomes of builds."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import nbformat
import psutil
import pytest

from support import PATIENCE, until
from support.homes import alive, processes, supervisor_of, watcher_of
from support.interpreters import OTHERS
from support.namespaces import run as run_in
from support.namespaces import unshared
from support.notebooks import write
from support.packages import UV, Index, deploy_packaged, is_unused, pack, packages, running_index
from taskapi_jupyter.client.job import Job
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.worker import package_builder

pytestmark = pytest.mark.local

VERSION = "import alpha\ndef task(config):\n    print('task', alpha.version, flush=True)\n    return alpha.version\n"
Deploy = Callable[..., dict[str, Any]]


@pytest.fixture
def index() -> Iterator[Index]:
    with running_index() as index:
        yield index


@pytest.fixture
def build_env(tmp_path: Path) -> dict[str, str]:
    """Return the variables of builds: caches of their own, and nothing of what this machine's pip is told."""
    return {
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "PIP_CACHE_DIR": str(tmp_path / "pip"),
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_FIND_LINKS": "",
    }


@pytest.fixture
def deploy(service: Service, index: Index, name: str, build_env: dict[str, str]) -> Deploy:
    """Return what deploys a task that runs in an environment of lock lines; it returns ``launch["packages"]``."""

    def deploy(lock: list[str], source: str = VERSION, api: str = name, **about: Any) -> dict[str, Any]:
        spec = {key: about.pop(key) for key in ("compute",) if key in about}
        about = packages(
            lock, about.pop("index_url", index.url), **{**about, "env": {**build_env, **about.get("env", {})}}
        )
        deploy_packaged(service, api, source, lock, about, **spec)
        return about

    return deploy


@pytest.fixture(params=["uv", "pip"])
def builder(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def ended(job: Job) -> Job:
    """Wait for a job's end."""
    try:
        job.wait(PATIENCE)
    except TimeoutError:
        raise AssertionError(f"{job} has not ended: {job.logs()}") from None
    return job


def succeeded(job: Job) -> Any:
    """Wait for a job's end and return its result."""
    assert ended(job).status == "succeeded", (job.reason, job.logs())
    return job.result()


def left(home: Path) -> list[str]:
    """Return what there is of environments, locks aside."""
    folder = home / "packages"
    return sorted(one.name for one in folder.iterdir() if one.is_dir()) if folder.exists() else []


def built(job: Job) -> bool:
    """Whether a job's log says that it has built an environment."""
    return "taskapi: built the environment" in job.logs()


def downloading(job: Job, index: Index) -> None:
    """Wait until a job's build waits for a file of an index that holds it."""
    until(lambda: any(path.endswith(".whl") for path, _ in index.seen) or job.refresh().ended, "the build to download")
    assert not job.ended, (job.reason, job.logs())


# What a build gives


def test_the_first_job_builds_and_later_ones_find_it(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    about = deploy([index.add("alpha", "1.0"), index.add("beta", "2.0")], builder=builder)
    job = service.submit(name)
    assert succeeded(job) == "1.0"
    log = job.logs().splitlines()
    assert all(line.startswith(f"{builder}: ") for line in log[:-2])
    assert log[-2].startswith(f"taskapi: built the environment {about['key'][:8]} in ")
    assert log[-2].endswith(" s (2 packages)")
    assert log[-1] == "task 1.0"
    assert job.progress is None
    again = service.submit(name)
    assert succeeded(again) == "1.0"
    assert again.logs() == "task 1.0\n"
    folder = home / "packages" / about["key"]
    facts = json.loads((folder / "taskapi.json").read_text())
    size = sum(one.lstat().st_size for one in folder.rglob("*") if not one.is_dir())
    assert facts.pop("built") > time.time() - 60
    assert facts.pop("seconds") > 0
    assert 0 < facts.pop("size") <= size
    assert facts == {
        "key": about["key"],
        "python": sys.executable,
        "version": about["version"],
        "builder": builder,
        "records": 2,
        "requirements": ["alpha", "beta"],
        "packages": ["alpha==1.0", "beta==2.0"],
        "layout": 1,
    }
    assert left(home) == [about["key"]]
    if builder == "uv":  # the file is that of its cache
        assert next(folder.glob("lib/*/site-packages/alpha.py")).stat().st_nlink > 1
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "taskapi.json").stat().st_mode & 0o777 == 0o600


def test_a_build_is_a_jobs_progress_until_the_task_begins(
    service: Service, deploy: Deploy, index: Index, name: str
) -> None:
    index.hold = threading.Event()
    deploy([index.add("alpha", "1.0")])
    job = service.submit(name)
    downloading(job, index)
    assert job.refresh().status == "running"
    assert job.progress is not None
    assert job.progress.message == "building the environment"
    index.hold.set()
    assert succeeded(job) == "1.0"
    assert job.refresh().progress is None


def test_console_scripts_run_where_the_environment_was_moved_to(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    source = """
import os, subprocess, sys
def task(config):
    folder = os.path.dirname(sys.executable)
    run = lambda *command: subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [run(folder + "/alpha-run"), sys.prefix]
"""
    about = deploy([index.add("alpha", "1.0", script="alpha-run")], source, builder=builder)
    folder = home / "packages" / about["key"]
    assert succeeded(service.submit(name)) == ["alpha 1.0\n", str(folder)]
    found = subprocess.run(["grep", "-rlI", ".tmp-", folder], capture_output=True, text=True).stdout
    assert found == ""


def test_two_versions_of_one_package_at_the_same_time_jupyter_scheduler_594(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, tmp_path: Path
) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 4\n")
    source = """
import os, time
import alpha
def task(config):
    open(os.path.join(config["folder"], alpha.version), "w").close()
    while len(os.listdir(config["folder"])) < 2:  # the other one runs, too
        time.sleep(0.01)
    print("alpha", alpha.version)
    return alpha.version
"""
    (tmp_path / "both").mkdir()
    apis = {f"{name}-{number}": version for number, version in enumerate(("1.0", "2.0"))}
    for api, version in apis.items():
        deploy([index.add("alpha", version)], source, api)
    jobs = {version: service.submit(api, {"folder": str(tmp_path / "both")}) for api, version in apis.items()}
    for version, job in jobs.items():
        assert succeeded(job) == version
        assert job.logs().endswith(f"\nalpha {version}\n")


def test_what_a_task_has_in_an_environment_with_nothing_of_ours(
    service: Service, deploy: Deploy, index: Index, name: str, tmp_path: Path
) -> None:
    source = """
import signal, sys
from importlib.util import find_spec
import alpha
from taskapi_jupyter.job import metric, progress
def task(config):
    print([name for name in ("msgspec", "IPython", "tornado") if find_spec(name)])
    progress(1, 2, "half")
    metric(loss=0.5, step=1)
    if config["fails"]:
        raise ValueError("as the config says")
    return {"version": alpha.version, "set": {1, 2}}
"""
    deploy([index.add("alpha", "1.0")], source)
    good, bad = service.submit(name, {"fails": False}), service.submit(name, {"fails": True})
    assert succeeded(good) == {"version": "1.0", "set": {1, 2}}
    assert good.logs().splitlines()[-1] == "[]"
    assert good.progress is not None
    assert (good.progress.done, good.progress.total, good.progress.message) == (1, 2, "half")
    assert list(good.metrics()["value"]) == [0.5]
    assert (ended(bad).status, bad.reason, bad.exit_code) == ("worker_error", "ValueError: as the config says", 1)
    assert f"cell {name}, line 11, in task" in bad.logs()


def test_a_task_finds_the_same_whether_or_not_its_job_has_built(
    service: Service, deploy: Deploy, index: Index, name: str
) -> None:
    source = """
import os, signal
def task(config):
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    environ = {key: value.replace(os.environ["TASKAPI_JOB_ID"], "ID") for key, value in os.environ.items()}
    fds = sorted(os.listdir("/proc/self/fd"))
    return [environ, [status[key] for key in ("SigBlk", "SigIgn", "SigCgt", "Umask", "Name")], fds, os.getcwd()]
"""
    deploy([index.add("alpha", "1.0")], source, env={"UV_INDEX_OTHER_PASSWORD": "secret-of-the-build"})
    one, other = succeeded(service.submit(name)), succeeded(service.submit(name))
    assert one == other
    assert "secret-of-the-build" not in str(one)


@pytest.mark.parametrize("base", OTHERS)
def test_an_environment_of_another_python(
    service: Service, deploy: Deploy, index: Index, name: str, base: str, builder: str
) -> None:
    if builder == "pip" and subprocess.run([base, "-I", "-c", "import pip"], capture_output=True).returncode:
        pytest.skip(f"{base} has no pip")
    source = "import sys\nimport alpha\ndef task(config):\n    return [alpha.version, list(sys.version_info[:2])]\n"
    deploy([index.add("alpha", "1.0")], source, base=base, builder=builder, pip=base if builder == "pip" else None)
    version = subprocess.run([base, "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, text=True)
    assert succeeded(service.submit(name)) == ["1.0", list(map(int, version.stdout.split()))]


def test_a_notebook_runs_in_the_kernel_of_its_environment(
    service: Service, index: Index, name: str, tmp_path: Path, short_home: Path
) -> None:
    (tmp_path / "wanted.in").write_text("ipykernel\n")
    told = [UV, "pip", "compile", "-q", "--no-header", "--no-annotate", "--generate-hashes", "wanted.in"]
    done = subprocess.run([*told, "--python", sys.executable], cwd=tmp_path, capture_output=True, text=True, check=True)
    lock = done.stdout.replace("\\\n", " ").splitlines()
    path = write(tmp_path / "Report.ipynb", "import alpha, sys\nprint(alpha.version, sys.prefix)")
    with closing(Service(short_home)) as notebooks:
        notebooks.deploy({"name": name, "kind": "TaskAPI", "definition": {"path": str(path)}})
        wheels = index.save(tmp_path / "my wheels")
        lock.append(index.add("alpha", "1.0"))
        about = packages(lock)
        about["index"]["find_links"] = [index.save(wheels).as_uri()]
        pack(notebooks, name, lock, about)
        job = notebooks.submit(name)
        job.wait(90)
        assert job.status == "succeeded", (job.reason, job.logs())
        (file,) = (short_home / "jobs" / job.id / "files").glob("*.ipynb")
        (cell,) = nbformat.read(file, 4).cells
        assert cell.outputs[0].text == f"1.0 {short_home / 'packages' / about['key']}\n"
        assert built(job)


# Who builds, and who waits


def test_ten_jobs_at_once_build_once(service: Service, deploy: Deploy, index: Index, name: str, home: Path) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 10\n")
    index.hold = threading.Event()
    deploy([index.add("alpha", "1.0"), index.add("beta", "1.0")])
    jobs = [service.submit(name) for _ in range(10)]
    until(lambda: sum("waiting for" in job.logs() for job in jobs) == 9, "nine to wait")
    (one,) = (job for job in jobs if "waiting for" not in job.logs())
    index.hold.set()
    assert [succeeded(job) for job in jobs] == ["1.0"] * 10
    assert [job for job in jobs if built(job)] == [one]
    waited = f"taskapi: waiting for job {one.id}, which builds the same environment\ntask 1.0\n"
    assert [job.logs() for job in jobs if job is not one] == [waited] * 9
    assert index.downloads == {"alpha-1.0-py3-none-any.whl": 1, "beta-1.0-py3-none-any.whl": 1}


def test_whoever_waited_builds_where_the_first_one_could_not(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path
) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\ncpus: 4\n")
    index.hold = threading.Event()
    about = deploy([index.add("alpha", "1.0")])
    first = service.submit(name)
    downloading(first, index)
    others = [service.submit(name) for _ in range(2)]
    until(lambda: all("waiting for" in job.logs() for job in others), "the others to wait")
    service.stop(first)
    assert ended(first).status == "stopped"
    index.hold.set()
    assert [succeeded(job) for job in others] == ["1.0"] * 2
    assert sorted(map(built, others)) == [False, True]
    assert left(home) == [about["key"]]


def test_an_environment_is_held_while_jobs_run_in_it_and_its_use_is_noted(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, tmp_path: Path
) -> None:
    source = """
import pathlib, time
def task(config):
    print("begun", flush=True)
    while not pathlib.Path(config["go"]).exists():
        time.sleep(0.01)
"""
    about = deploy([index.add("alpha", "1.0")], source)
    used = home / "packages" / f"{about['key']}.used"
    for number in range(2):  # the second by the same watcher, which is done with the first
        go = tmp_path / f"go-{number}"
        job = service.submit(name, {"go": str(go)})
        until(lambda job=job: "begun" in job.logs(), "the task to begin")
        assert not is_unused(home, about["key"])
        assert used.stat().st_mtime > time.time() - 60
        os.utime(used, (1, 1))
        assert used.stat().st_mode & 0o777 == 0o600
        go.touch()
        succeeded(job)
        until(lambda: is_unused(home, about["key"]), "the environment to be free")


# Builds that end early


@pytest.mark.parametrize("point", ["locked", "made", "installed", "synced", "renamed"])
@pytest.mark.parametrize("who", ["builder", "watcher"])
def test_a_build_that_is_killed(
    service: Service,
    deploy: Deploy,
    index: Index,
    name: str,
    home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    point: str,
    who: str,
) -> None:
    faults = tmp_path / "faults"
    faults.mkdir()
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    (faults / f"build.{point}").write_text("kill" if who == "builder" else "pause")
    about = deploy([index.add("alpha", "1.0")])
    killed = service.submit(name)
    if who == "watcher":
        until((faults / f"build.{point}.held").exists, "the build to be there")
        os.kill(watcher_of(home, killed), signal.SIGKILL)
    wanted = ("worker_error", "killed by signal 9 (SIGKILL)") if who == "builder" else ("unexpected_error", None)
    assert ended(killed).status == wanted[0]
    if wanted[1]:
        assert killed.reason == wanted[1]
    if who == "builder":  # its watcher cleans up
        assert left(home) == ([about["key"]] if point == "renamed" else [])
    job = service.submit(name)
    assert succeeded(job) == "1.0"
    assert built(job) == (point != "renamed")
    assert left(home) == [about["key"]]
    assert "waiting" not in job.logs()


@pytest.mark.parametrize("how", ["stop", "timeout", "run_timeout", "memory"])
def test_a_build_that_is_ended(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str, how: str
) -> None:
    index.hold = threading.Event()
    deploy([index.add("alpha", "1.0")], builder=builder, compute={"mem": "20Mi"} if how == "memory" else {})
    limits = {how: 3} if how.endswith("timeout") else {}
    job = service.submit(name, {}, **limits)
    if how != "memory":
        downloading(job, index)
    if how == "stop":
        service.stop(job)
    statuses = {"stop": "stopped", "memory": "worker_oom"}
    assert ended(job).status == statuses.get(how, "timed_out"), (job.reason, job.logs())
    if how == "memory":
        assert str(job.reason).endswith("limit 20 MiB")
    assert left(home) == []
    until(lambda: not [one for one in processes(home) if "harness" in " ".join(one.cmdline())], "the build to be gone")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_later_supervisor_follows_a_build(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, number: int
) -> None:
    index.hold = threading.Event()
    deploy([index.add("alpha", "1.0")])
    job = service.submit(name)
    downloading(job, index)
    supervisor = psutil.Process(supervisor_of(home))
    supervisor.send_signal(number)
    if number == signal.SIGKILL:
        until(lambda: not alive(supervisor), "the supervisor to end")
    index.hold.set()
    assert succeeded(job) == "1.0"
    assert built(job)


def test_a_builder_that_somebody_kills(service: Service, deploy: Deploy, index: Index, name: str, home: Path) -> None:
    index.hold = threading.Event()
    deploy([index.add("alpha", "1.0")])
    job = service.submit(name)
    downloading(job, index)
    (uv,) = psutil.Process(watcher_of(home, job)).children()[0].children()
    uv.kill()
    assert (ended(job).status, job.reason) == ("worker_error", "killed by signal 9 (SIGKILL)")
    assert job.logs().endswith("taskapi: uv was killed by signal 9\n")
    assert left(home) == []


# Builds that fail


def test_a_builders_own_reason_and_exit_code(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    index.add("alpha", "1.0")
    deploy(["alpha==9.9 --hash=sha256:" + "0" * 64], builder=builder)
    jobs = [service.submit(name) for _ in range(2)]  # never cached: each tries
    for job in jobs:
        assert ended(job).status == "worker_error"
        assert job.exit_code == 1
        told = {
            "uv": "uv: Because there is no version of alpha==9.9 and you require alpha==9.9",
            "pip": "pip: No matching distribution found for alpha==9.9",
        }
        assert str(job.reason).startswith(told[builder])
        assert job.logs().endswith(f"taskapi: {job.reason}\n")
        assert job.refresh().progress is None
    assert left(home) == []
    index.wheels.clear()
    line = index.add("alpha", "9.9")
    deploy([line], builder=builder)
    assert succeeded(service.submit(name)) == "9.9"


def test_a_package_that_is_not_what_the_lock_says(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    index.add("alpha", "1.0")
    deploy(["alpha==1.0 --hash=sha256:" + "0" * 64], builder=builder)
    job = ended(service.submit(name))
    assert job.status == "worker_error"
    assert "hash" in str(job.reason).lower()
    assert left(home) == []


def test_an_index_that_refuses(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    index.status = 403
    deploy([index.add("alpha", "1.0")], builder=builder)
    job = ended(service.submit(name))
    assert job.status == "worker_error"
    assert "403" in str(job.reason)
    assert index.url in str(job.reason)
    assert left(home) == []


def test_an_index_that_is_slow(service: Service, deploy: Deploy, index: Index, name: str, builder: str) -> None:
    index.delay = 1.0
    deploy([index.add("alpha", "1.0")], builder=builder)
    assert succeeded(service.submit(name)) == "1.0"


def test_nobody_answers(service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    deploy([index.add("alpha", "1.0")], builder=builder, index_url=f"http://joe:hunter22@127.0.0.1:{port}/simple/")
    job = ended(service.submit(name))
    assert (job.status, job.reason) == (
        "worker_error",
        f"can't reach http://{'***@' if builder == 'pip' else ''}127.0.0.1:{port}/simple/alpha/ (127.0.0.1:{port}); "
        "see packages.offline and packages.index_url",
    )
    assert "hunter22" not in job.logs()
    assert left(home) == []


def test_neither_uv_nor_pip(service: Service, deploy: Deploy, index: Index, name: str) -> None:
    deploy([index.add("alpha", "1.0")], uv="/nowhere/uv", env={"PATH": "/nowhere"})
    job = ended(service.submit(name))
    assert job.status == "worker_error"
    assert str(job.reason).startswith("neither uv nor pip is there to build the environment: pip install ")
    assert f"{sys.executable} -m ensurepip" in str(job.reason)


def test_an_interpreter_that_is_gone(service: Service, deploy: Deploy, index: Index, name: str, tmp_path: Path) -> None:
    deploy([index.add("alpha", "1.0")], base=str(tmp_path / "python3.99"))
    job = ended(service.submit(name))
    assert job.status == "unexpected_error"
    assert str(job.reason) == f"could not be started: {tmp_path / 'python3.99'}: No such file or directory"


NO_SPACE = """
from support.packages import deploy_packaged, packages, running_index
folder = Path(sys.argv[1])
mount(folder, "size=8m", "mode=700")
home = folder / "home"
service = Service(home)
with running_index() as index:
    lock = [index.add("alpha", "1.0", size=5 << 20), index.add("beta", "1.0", size=5 << 20)]
    for builder in ("uv", "pip"):
        env = {"UV_CACHE_DIR": sys.argv[2], "PIP_CACHE_DIR": sys.argv[2], "PIP_CONFIG_FILE": os.devnull}
        about = packages(lock, index.url, builder=builder, env={**env, "PIP_FIND_LINKS": ""})
        deploy_packaged(service, "alpha", "def task(config):\\n    pass\\n", lock, about)
        job = service.submit("alpha").wait(PATIENCE)
        assert job.status == "worker_error", (job.status, job.reason)
        assert job.reason == f"no space is left for an environment of packages in {home}/packages", job.reason
        assert not [one for one in (home / "packages").iterdir() if one.is_dir()]
service.close()
clean(home)
"""


def test_a_disk_without_room(tmp_path: Path) -> None:
    run_in(unshared("--mount"), NO_SPACE, tmp_path / "small", tmp_path / "cache")


# Credentials


def test_credentials_reach_the_index_and_nothing_else(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, tmp_path: Path, builder: str
) -> None:
    user, password = "joe-the-user", "hunter22-is-secret"
    index.credentials = (user, password)
    index.hold = threading.Event()
    about = deploy([index.add("alpha", "1.0")], index_url=index.url_with(user, password), builder=builder)
    job = service.submit(name)
    downloading(job, index)
    commands = [" ".join(one.cmdline()) for one in processes(home)]
    assert any("package_builder.py" in one for one in commands), commands
    assert not any(password in one for one in commands)
    index.hold.set()
    assert succeeded(job) == "1.0"
    assert any(sent for _, sent in index.seen)
    index.credentials = (user, "another")
    failing = [index.add("gamma", "1.0")]
    deploy(failing, VERSION, f"{name}-2", index_url=index.url_with(user, password), builder=builder)
    bad = ended(service.submit(f"{name}-2"))
    assert bad.status == "worker_error"
    assert "401" in str(bad.reason), (bad.reason, bad.logs())
    for one in (job, bad):
        assert password not in one.logs()
        assert password not in json.dumps([service.get(one.api_name, one.id).reason, str(one.refresh())])
    service.close()
    folders = [home, tmp_path / "uv", tmp_path / "pip"]
    found = subprocess.run(["grep", "-rla", password, *filter(os.path.exists, folders)], capture_output=True, text=True)
    assert {Path(one).name.removesuffix("-wal") for one in found.stdout.split()} <= {"taskapi.db"}
    assert about["key"] in left(home)


# Environments that are damaged, removed, or built without a network


def no_record(folder: Path) -> None:
    next(folder.glob("lib/*/site-packages/alpha-*.dist-info/RECORD")).unlink()


def unreadable(folder: Path) -> None:
    (folder / "taskapi.json").write_text("{")


def no_facts(folder: Path) -> None:
    (folder / "taskapi.json").unlink()


def emptied(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def no_python(folder: Path) -> None:
    (folder / "bin" / "python").unlink()


@pytest.mark.parametrize("harm", [no_record, unreadable, no_facts, emptied, no_python])
def test_a_damaged_environment_is_built_again_once(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, harm: Callable[[Path], None]
) -> None:
    about = deploy([index.add("alpha", "1.0")])
    assert succeeded(service.submit(name)) == "1.0"
    harm(home / "packages" / about["key"])
    job = service.submit(name)
    assert succeeded(job) == "1.0"
    assert job.logs().startswith(f"taskapi: the environment {about['key'][:8]} is damaged and is built again: ")
    assert built(job)
    after = service.submit(name)
    assert succeeded(after) == "1.0"
    assert after.logs() == "task 1.0\n"
    assert left(home) == [about["key"]]


def test_what_was_removed_is_built_again_offline_from_uvs_cache(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path
) -> None:
    about = deploy([index.add("alpha", "1.0")])
    assert succeeded(service.submit(name)) == "1.0"
    shutil.rmtree(home / "packages" / about["key"])
    (home / "config.yaml").write_text("stop_grace: 1\npackages:\n  offline: true\n")
    seen = len(index.seen)
    job = service.submit(name)
    assert succeeded(job) == "1.0"
    assert built(job)
    assert len(index.seen) == seen


def test_offline_with_nothing_in_the_cache(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\npackages:\n  offline: true\n")
    deploy([index.add("alpha", "1.0")], builder=builder)
    job = ended(service.submit(name))
    assert job.status == "worker_error"
    assert str(job.reason).startswith(f"{builder}: ")
    assert index.seen == []
    assert left(home) == []


def test_requirements_without_a_lock_are_resolved_first(
    service: Service, deploy: Deploy, index: Index, name: str, home: Path, builder: str
) -> None:
    index.add("beta", "2.0")
    index.add("alpha", "1.0", requires=["beta<3"])
    about = deploy(["alpha"], unlocked=True, packages=[], builder=builder)
    job = service.submit(name)
    assert succeeded(job) == "1.0"
    folder = home / "packages" / about["key"]
    facts = json.loads((folder / "taskapi.json").read_text())
    assert (facts["requirements"], facts["packages"]) == (["alpha"], ["alpha==1.0", "beta==2.0"])
    assert "--hash=sha256:" in (folder / "requirements.lock").read_text()
    assert "(2 packages)" in job.logs()


@pytest.mark.parametrize("what", ["a name", "another layout"])
def test_facts_of_another_environment_are_damage(tmp_path: Path, what: str) -> None:
    (tmp_path / "lib").mkdir()
    facts = {"key": "a" * 32, "layout": package_builder.LAYOUT, "records": 0}
    facts.update({"key": "b" * 32} if what == "a name" else {"layout": 0})
    (tmp_path / "taskapi.json").write_text(json.dumps(facts))
    assert package_builder.damage(str(tmp_path), "a" * 32) == "its taskapi.json is of another one"
