"""Warm starts: what a task finds is what a cold start gives it, and what becomes of templates."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from support import PATIENCE, request_for, until
from support.homes import alive, processes, supervisor_of, watcher_of
from support.packages import is_unused, pack, packages, running_index
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core import host
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.prepare import Source
from taskapi_jupyter.service.service import Service

pytestmark = [pytest.mark.local, pytest.mark.skipif(not host.LINUX, reason="a warm start needs Linux")]

COLD = "taskapi: started cold, not warm: "


@pytest.fixture
def deploy(service: Service, name: str, tmp_path: Path) -> Callable[..., None]:
    """Return what deploys a task's text, in a project of its own; ``warm`` is ``definition.warm``, None: cold."""
    (tmp_path / "project").mkdir()

    def deploy(text: str, warm: Any = None, api: str = name, **spec: Any) -> None:
        definition = {"path": "task.py", "warm": warm}
        request = request_for(api, text, definition=definition, **spec)
        request.cwd = str(tmp_path / "project")
        service.deploy_request(request)

    return deploy


@pytest.fixture
def run(service: Service, name: str) -> Callable[..., Job]:
    """Return what runs a job to its end."""

    def run(api: str = name, **config: Any) -> Job:
        job = service.submit(api, config)
        try:
            job.wait(PATIENCE)
        except TimeoutError:
            raise AssertionError(f"{job} has not ended: {job.logs()}") from None
        assert job.status == "succeeded", (job.reason, job.logs())
        return job

    return run


def templates(home: Path) -> list[psutil.Process]:
    """Return the templates of a home."""
    found = []
    for one in processes(home):
        try:
            if one.name() == "taskapi-warm" and psutil.Process(one.ppid()).name() == "taskapi-super":
                found.append(one)
        except psutil.NoSuchProcess:
            continue
    return found


def is_warm(home: Path, job: Job) -> bool:
    """Say whether a job that has ended was forked by the one template there is."""
    (template,) = templates(home)
    return int(job.result()["watchers_parent"]) == template.pid


FACTS = r"""
import numpy
import os, random, signal, sys, threading

def task(config):
    status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
    watcher = dict(line.split(":\t", 1) for line in open(f"/proc/{os.getppid()}/status").read().splitlines())
    me = os.environ["TASKAPI_JOB_ID"]
    def plain(text):
        return text.replace(me, "ID")
    files = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            files[name] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass
    kinds = {fd: path.partition(":")[0] for fd, path in files.items() if not path.startswith("/proc/")}
    import multiprocessing.process
    return {
        "same": {
            "argv": sys.argv,
            "path": sys.path,
            "cwd": os.getcwd(),
            "umask": status["Umask"],
            "name": status["Name"],
            "signals": [status[key] for key in ("SigBlk", "SigIgn", "SigCgt")],
            "handlers": {str(n): repr(signal.getsignal(n)).partition(" object")[0] for n in range(1, 32)},
            "threads": status["Threads"] == "1" or "numpy" in sys.modules,
            "files": {fd: plain(path) for fd, path in kinds.items()},
            "environ": {key: plain(value) for key, value in os.environ.items()},
            "shown": sorted(plain(one) for one in open("/proc/self/environ").read().split("\0")),
            "limits": open("/proc/self/limits").read(),
            "leads": [os.getpgid(0) == os.getpid(), os.getsid(0) == os.getppid()],
            "locale": __import__("locale").getlocale(),
            "garbage": __import__("gc").isenabled(),
            "main": sorted(vars(sys.modules["__main__"])),
            "modules": sorted(
                one for one in sys.modules
                if one.startswith("taskapi_jupyter") or one in ("template", "harness", "socket", "ctypes", "fcntl")
            ),
            "meta_path": [getattr(one, "__name__", type(one).__name__) for one in sys.meta_path],
            "stdin": sys.stdin.read(),
            "buffered": [sys.stdout.line_buffering, sys.stderr.line_buffering, sys.stdout.encoding],
        },
        "drawn": [
            random.random(), float(numpy.random.rand()),
            bytes(multiprocessing.process.current_process().authkey).hex(),
        ],
        "id": me,
        "watchers_parent": watcher["PPid"],
    }
"""


def test_a_task_finds_what_a_cold_start_gives_it(
    service: Service, deploy: Any, run: Any, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "project" / "json.py").write_text("mine = True\n")  # it would hide the library's from a cold start
    text = FACTS.replace('"main":', '"json": __import__("json").mine, "main":')
    deploy(text)
    cold = run()
    assert templates(home) == []
    deploy(text, {})
    first, second = run(), run()
    assert is_warm(home, first)
    assert is_warm(home, second)
    facts = [job.result()["same"] for job in (cold, first, second)]
    for one in facts:  # deployed anew, it is another version, in another folder
        one["shown"] = [text for text in one["shown"] if text]
        api_id = Path(one["argv"][0]).parent.name
        one.update(json.loads(json.dumps(one).replace(api_id, "VERSION")))
    assert facts[1] == facts[0]
    assert facts[2] == facts[0]
    drawn = [job.result()["drawn"] for job in (cold, first, second)]
    assert all(len(set(column)) == 3 for column in zip(*drawn, strict=True))
    assert [job.result()["id"] for job in (first, second)] == [first.id, second.id]


INSIDE = """
import multiprocessing, os
import numpy as np
from joblib import Parallel, delayed

def square(n):
    return n * n

def forked(n):
    return float((np.ones((300, 300)) @ np.ones((300, 300)))[0, 0]) + n

def task(config):
    __import__("faulthandler").dump_traceback_later(20)  # where it hangs, if it does
    found = {"product": float((np.ones((600, 600)) @ np.ones((600, 600))).sum())}
    for method in ("fork", "spawn"):
        pool = multiprocessing.get_context(method).Pool(2)
        found[method] = pool.map(forked, range(4))
        pool.close()  # a pool that is terminated may hang, now and then
        pool.join()
    found["joblib"] = Parallel(n_jobs=2)(delayed(square)(n) for n in range(4))
    found["threads"] = Parallel(n_jobs=2, backend="threading")(delayed(square)(n) for n in range(4))
    found["watchers_parent"] = open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1]
    return found
"""


def test_processes_threads_and_openblas_inside(deploy: Any, run: Any, home: Path) -> None:
    deploy(INSIDE, {})
    for _ in range(2):
        job = run()
        assert is_warm(home, job)
        found = job.result()
        assert found["product"] == 600.0**3
        assert found["fork"] == found["spawn"] == [300.0, 301.0, 302.0, 303.0]
        assert found["joblib"] == found["threads"] == [0, 1, 4, 9]


def test_what_imports_print_is_in_each_log(deploy: Any, run: Any, tmp_path: Path) -> None:
    (tmp_path / "project" / "loud.py").write_text("import sys\nprint('out')\nprint('err', file=sys.stderr)\n")
    text = "import loud\ndef task(config):\n    print('task')\n"
    deploy(text, {"preload": ["loud"]})
    assert [run().logs() for _ in range(3)] == ["out\nerr\ntask\n"] * 3


# Where a fork is not safe, or what was imported is old

REFUSED = {
    "import threading, time\nthreading.Thread(target=time.sleep, args=(60,), daemon=True).start()": (
        "its imports have left 1 thread running"
    ),
    "import os\nfile = open(__file__)": "its imports have left {file} open",
    "import socket\npair = socket.socketpair()": "its imports have left socket:",
    "import subprocess\nchild = subprocess.Popen(['sleep', '60'])": "its imports have started a process",
    "import nowhere": "helper can't be imported ahead (ModuleNotFoundError: No module named 'nowhere')",
    "import os\nos.environ.get('X') or os._exit(3)": "its template ended unasked",
    "class cuda:\n    @staticmethod\n    def is_initialized():\n        return True\n"
    "import sys, types\nsys.modules['torch'] = types.SimpleNamespace(cuda=cuda)": "its imports have initialised CUDA",
}


@pytest.mark.parametrize("helper", REFUSED)
def test_imports_that_a_fork_would_break(deploy: Any, run: Any, home: Path, tmp_path: Path, helper: str) -> None:
    file = tmp_path / "project" / "helper.py"
    file.write_text(helper)
    deploy("def task(config):\n    return 1\n", {"preload": ["helper"]})
    jobs = [run() for _ in range(3)]
    assert jobs[0].logs().startswith(COLD + REFUSED[helper].format(file=file))
    assert jobs[0].logs().count("\n") == 1
    assert [job.logs() for job in jobs[1:]] == ["", ""]  # said once
    assert templates(home) == []


HELPED = """
import helper, os
def task(config):
    parent = open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1]
    return {"value": helper.value, "watchers_parent": parent}
"""


@pytest.mark.parametrize("how", ["written", "replaced", "removed and a package"])
def test_a_file_that_changed_since_it_was_imported(deploy: Any, run: Any, home: Path, tmp_path: Path, how: str) -> None:
    file = tmp_path / "project" / "helper.py"
    file.write_text("value = 1\n")
    os.utime(file, (1, 1))
    deploy(HELPED, {"preload": ["helper"]})
    first = run()
    assert (first.result()["value"], is_warm(home, first)) == (1, True)
    if how == "written":
        file.write_text("value = 2\n")
    elif how == "replaced":
        (tmp_path / "new").write_text("value = 2\n")
        os.utime(tmp_path / "new", (1, 1))  # as old, as long
        os.replace(tmp_path / "new", file)
        for one in (file.parent / "__pycache__").glob("helper.*"):
            one.unlink()
    else:
        file.unlink()
        (file.parent / "helper").mkdir()
        (file.parent / "helper" / "__init__.py").write_text("value = 2\n")
    second = run()
    assert second.result()["value"] == 2
    assert second.logs() == f"{COLD}{file} has changed since it was imported\n"
    third = run()
    assert (third.result()["value"], third.logs(), is_warm(home, third)) == (2, "", True)


def test_a_projects_own_modules_are_imported_anew_unless_they_are_named(
    deploy: Any, run: Any, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "project" / "helper.py").write_text("import os\nvalue = os.getpid()\n")
    deploy(HELPED, {})
    one, other = run(), run()
    assert one.result()["value"] != other.result()["value"]
    assert is_warm(home, other)


# What becomes of templates

SLEEPS = """
import json, os, time
def task(config):
    print("begun", flush=True)
    while not os.path.exists(config["until"]):
        time.sleep(0.01)
    return os.getpid()
"""


def begun(service: Service, name: str, until_there: Path, **config: Any) -> Job:
    """Return a job that has begun, and ends when a file is there."""
    job = service.submit(name, {"until": str(until_there), **config})
    until(lambda: "begun" in job.logs(), "the job to begin")
    return job


def test_a_template_begins_once_its_packages_are_there_and_holds_them(
    service: Service, deploy: Any, run: Any, home: Path, name: str, tmp_path: Path
) -> None:
    text = """
import os, sys
import alpha
def task(config):
    parent = open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[1]
    return {"value": alpha.version, "python": sys.prefix, "watchers_parent": parent}
"""
    deploy(text, {"idle": 1})
    with running_index() as index:
        lock = [index.add("alpha", "1.0")]
        env = {"UV_CACHE_DIR": str(tmp_path / "cache")}
        about = packages(lock, index.url, env=env)
        pack(service, name, lock, about)
        first = run()
    assert "taskapi: built the environment" in first.logs()
    assert templates(home) == []
    second = run()
    assert second.logs() == ""
    assert is_warm(home, second)
    found = [job.result() for job in (first, second)]
    assert [(one["value"], one["python"]) for one in found] == [("1.0", str(home / "packages" / about["key"]))] * 2
    (template,) = templates(home)
    assert not is_unused(home, about["key"]) or not alive(template)
    until(lambda: not alive(template), "the template to end")
    until(lambda: is_unused(home, about["key"]), "its packages to be free")


def test_a_template_that_is_idle_ends_and_the_supervisor_with_it(deploy: Any, run: Any, home: Path) -> None:
    deploy("def task(config):\n    pass\n", {"idle": 1})
    run()
    (template,) = templates(home)
    until(lambda: not alive(template), "the template to end")
    until(lambda: not processes(home), "the supervisor to leave")


@pytest.mark.parametrize("how", ["deployed", "deleted"])
def test_a_version_that_is_no_longer_deployed_has_no_template(
    service: Service, deploy: Any, run: Any, home: Path, name: str, how: str
) -> None:
    deploy("def task(config):\n    return 1\n", {})
    assert run().result() == 1
    (template,) = templates(home)
    if how == "deployed":
        deploy("def task(config):\n    return 2\n", {})
        until(lambda: not alive(template), "the template to end")
        assert run().result() == 2
    else:
        service.delete(name)
        until(lambda: not alive(template), "the template to end")


def test_variables_that_change_are_in_the_next_job(deploy: Any, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "import os\ndef task(config):\n    return os.environ.get('OMP_NUM_THREADS')\n"
    for value in ("3", "5"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        deploy(text, {})
        assert run().result() == value


def test_the_template_that_was_idle_for_longest_ends_where_there_are_too_many(
    service: Service, deploy: Any, run: Any, home: Path
) -> None:
    pids = []
    for number in range(3):
        deploy("def task(config):\n    return 1\n", {"max": 2}, f"api-{number}")
        run(f"api-{number}")
        pids.append({one.pid for one in templates(home)})
    assert [len(some) for some in pids] == [1, 2, 2]
    assert not pids[0] & pids[2]


def test_a_template_ends_where_a_job_needs_its_memory(
    service: Service, deploy: Any, run: Any, home: Path, name: str, tmp_path: Path
) -> None:
    (home / "config.yaml").write_text("stop_grace: 1\nmem: 100Mi\n")
    deploy("import numpy\ndef task(config):\n    pass\n", {})
    run()
    (template,) = templates(home)
    deploy("def task(config):\n    pass\n", api="other", compute={"mem": "20Mi"})
    run("other")
    assert alive(template)
    deploy("def task(config):\n    pass\n", api="large", compute={"mem": "99Mi"})
    run("large")
    until(lambda: not alive(template), "the template to end")


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSTOP])
def test_a_template_that_somebody_kills_or_stops(
    service: Service, deploy: Any, home: Path, name: str, tmp_path: Path, number: int
) -> None:
    deploy(SLEEPS, {}, compute={"cpu": "500m"})
    job = begun(service, name, tmp_path / "go")
    (template,) = templates(home)
    assert psutil.Process(watcher_of(home, job)).ppid() == template.pid
    template.send_signal(number)
    others = [begun(service, name, tmp_path / "go") for _ in range(2)]  # the first has a watcher that is there already
    until(lambda: not alive(template), "the template to end")
    (tmp_path / "go").touch()
    assert [one.wait(PATIENCE).status for one in (job, *others)] == ["succeeded"] * 3
    assert [one.logs() for one in others] == ["begun\n"] * 2


def test_a_template_ends_with_its_supervisor_and_jobs_go_on(
    service: Service, deploy: Any, home: Path, name: str, tmp_path: Path
) -> None:
    deploy(SLEEPS, {})
    job = begun(service, name, tmp_path / "go")
    (template,) = templates(home)
    os.kill(supervisor_of(home), signal.SIGKILL)
    until(lambda: not alive(template), "the template to end")
    other = begun(service, name, tmp_path / "go")
    (tmp_path / "go").touch()
    assert [one.wait(PATIENCE).status for one in (job, other)] == ["succeeded"] * 2


def test_a_supervisor_that_becomes_a_newer_one_follows_its_jobs(
    service: Service, deploy: Any, home: Path, name: str, tmp_path: Path
) -> None:
    deploy(SLEEPS, {})
    job = begun(service, name, tmp_path / "go")
    (template,) = templates(home)
    os.kill(supervisor_of(home), signal.SIGTERM)
    until(lambda: not alive(template), "the template to end")
    other = begun(service, name, tmp_path / "go")
    assert psutil.Process(watcher_of(home, other)).ppid() == templates(home)[0].pid
    (tmp_path / "go").touch()
    assert [one.wait(PATIENCE).status for one in (job, other)] == ["succeeded"] * 2


def test_what_a_killed_watcher_leaves_is_killed(
    service: Service, deploy: Any, home: Path, name: str, tmp_path: Path
) -> None:
    text = """
import os, time
def task(config):
    if os.fork() == 0:
        os.setsid()
        print("begun", os.getpid(), flush=True)
        time.sleep(600)
    time.sleep(600)
"""
    deploy(text, {})
    job = begun(service, name, tmp_path / "go")
    daemon = psutil.Process(int(job.logs().split()[1]))
    (template,) = templates(home)
    os.kill(watcher_of(home, job), signal.SIGKILL)
    assert job.wait(PATIENCE).status == "unexpected_error"
    until(lambda: not alive(daemon), "the daemon to end")
    assert alive(template)
    # The same where nobody is left who inherits what the watcher leaves: it is found by the job's id.
    job = begun(service, name, tmp_path / "go")
    daemon = psutil.Process(int(job.logs().split()[1]))
    os.kill(supervisor_of(home), signal.SIGKILL)
    os.kill(watcher_of(home, job), signal.SIGKILL)
    assert job.wait(PATIENCE).status == "unexpected_error"
    until(lambda: not alive(daemon), "the daemon to end")


def test_a_killed_task_that_was_forked_ahead_harms_no_job(
    service: Service, deploy: Any, home: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where its watcher, just forked from the template, has had no job before."""
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "watcher.log_made").write_text("pause")
    monkeypatch.setenv("TASKAPI_FAULTS", str(faults))
    deploy(SLEEPS, {})
    job = service.submit(name, {"until": str(tmp_path / "go")})
    held = faults / "watcher.log_made.held"
    until(lambda: held.exists() and held.read_text(), "the watcher to be at that point")
    watcher = psutil.Process(int(held.read_text()))
    assert watcher.parent() in templates(home)
    (ahead,) = watcher.children()
    ahead.kill()
    until(lambda: not ahead.is_running() or ahead.status() == psutil.STATUS_ZOMBIE, "it to be dead")
    (tmp_path / "go").touch()
    held.unlink()
    assert job.wait(PATIENCE).status == "succeeded"


def test_stopped_while_its_template_imports(
    service: Service, deploy: Any, run: Any, home: Path, name: str, tmp_path: Path
) -> None:
    go = tmp_path / "go"
    (tmp_path / "project" / "helper.py").write_text(
        f"import os, time\nwhile not os.path.exists({str(go)!r}):\n    time.sleep(0.01)\n"
    )
    deploy("def task(config):\n    return 1\n", {"preload": ["helper"]})
    late = service.submit(name, timeout=2)
    job = service.submit(name)
    until(lambda: templates(home), "the template")
    until(lambda: job.refresh().reason == "waits to begin: what its task imports is imported ahead", "the reason")
    assert service.stop(job) == f"stopped job {job.id}"
    assert job.refresh().status == "stopped"
    assert late.wait(PATIENCE).status == "timed_out"
    go.touch()
    assert run().result() == 1


# Deploying


def test_a_warm_start_is_suggested_once(service: Service, deploy: Any, run: Any, tmp_path: Path) -> None:
    for number in range(120):
        (tmp_path / "project" / f"part{number}.py").touch()
    (tmp_path / "project" / "slow.py").write_text(
        "import time\ntime.sleep(1)\nfor number in range(120):\n    __import__(f'part{number}')\n"
    )
    text = "import slow\ndef task(config):\n    print('begun')\n"
    deploy(text)
    first, second = run(), run()
    suggested, begun = first.logs().splitlines()
    assert suggested.startswith("taskapi: it took 1.")
    assert suggested.endswith("deployed with --warm, its jobs begin with them imported")
    assert begun == second.logs().strip() == "begun"
    deploy(text, {"preload": ["slow"]})
    assert [run().logs() for _ in range(2)] == ["begun\n"] * 2


def test_what_it_says_where_there_is_no_warm_start(service: Service, name: str, tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(0o755)
    (result,) = service.deploy(Source("def task(config):\n    return 1\n"), name=name, warm=True, python=str(bare))
    assert isinstance(result.warnings, list)
    assert result.warnings == [
        "definition.warm is ignored, and jobs start cold: a warm start takes Python 3.10 or newer and this package, "
        f"which {bare} has not"
    ]
    assert service.submit(name).wait(PATIENCE).result() == 1


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (True, {"preload": ["os", "json:dumps,loads", "numpy"], "auto": True, "idle": 600, "max": 2}),
        ("numpy, pandas", {"preload": ["numpy", "pandas"], "auto": False, "idle": 600, "max": 2}),
        (["a.b"], {"preload": ["a.b"], "auto": False, "idle": 600, "max": 2}),
        (
            {"idle": "90s", "max": 1},
            {"preload": ["os", "json:dumps,loads", "numpy"], "auto": True, "idle": 90, "max": 1},
        ),
        (False, None),
    ],
)
def test_what_is_imported_ahead(service: Service, name: str, given: Any, settings: Any) -> None:
    text = "import os\nfrom json import dumps, loads\nimport numpy as np\ndef task(config):\n    import random\n"
    service.deploy(Source(text), name=name, warm=given)
    version = service.store.api(name)
    assert version is not None
    assert json.loads(version["launch"]).get("warm") == settings


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("1x", "definition.warm.preload must be auto, or the names of 1 to 100 modules, not '1x'"),
        ([], "definition.warm.preload must be auto, or the names of 1 to 100 modules"),
        ({"idle": "soon"}, "definition.warm.idle must be a time such as"),
        ({"max": 0}, "definition.warm.max must be a whole number from 1 to 100"),
        ({"some": 1}, "unknown key 'some' in definition.warm"),
    ],
)
def test_what_is_refused(service: Service, name: str, given: Any, words: str) -> None:
    with pytest.raises(BadRequest, match=re.escape(words)):
        service.deploy(Source("def task(config):\n    pass\n"), name=name, warm=given)
