"""The terminal program, run as one, against a real home and through a real server."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import platform
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from support import PATIENCE, request_for, until
from support.cortex_double import Operator
from support.program import PROGRAM, answer, run, run_apart
from support.records import FIRST, deploy, ended
from support.servers import LiveServer, reserved_port
from taskapi_jupyter._version import __version__
from taskapi_jupyter.display.formats import columns
from taskapi_jupyter.service.service import Service

YAML = """
- name: adder
  kind: TaskAPI
  definition:
    path: adder.py
    config: {a: 1, b: 2}
- name: waits
  definition:
    path: waits.py
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "adder.py").write_text(
        "def run(config):\n    print('adding')\n    return config['a'] + int(config['b'])\n"
    )
    (folder / "waits.py").write_text("import time\ndef run(config):\n    print('up', flush=True)\n    time.sleep(60)\n")
    (folder / "cortex.yaml").write_text(YAML)
    return folder


def test_jobs_are_searched_and_counted(service: Service) -> None:
    deploy(service.store, "a", "a1")
    (oldest,) = ended(service, 1)
    values = "api_name, api_id, spec_id, status, change, created, boot, cpu, gpu"
    with service.store.write() as transaction:
        transaction.executemany(
            f"INSERT INTO jobs (id, {values}, notebook) VALUES (?, 'a', 'a1', 's', 'stopped', 1, 1, 'b', 1, 0, ?)",
            ((f"{FIRST - 100_000 - n:016x}", f"{n}.ipynb") for n in range(12_000)),
        )
    assert [job["job_id"] for job in answer("jobs", "list", "--search", f"{oldest} A")] == [oldest]
    assert len(answer("get", "a", "--search", "IPYNB", "--limit", "3")) == 3
    assert "older" in run("jobs", "list", "a", "--search", "ipynb", "--limit", "3").stdout
    assert run("jobs", "list", "--search", "no such words").stdout.strip() == "no jobs"
    assert answer("jobs", "count") == {"stopped": 12_000, "succeeded": 1}
    assert answer("jobs", "count", "a", "--status", "stopped") == {"stopped": 12_000}
    assert run("jobs", "count", "a").stdout == "12,000 stopped\n1 succeeded\n"
    assert run("jobs", "count", "none").stdout.strip() == "no jobs"


def test_a_dry_run_and_the_python_of_a_job(home: Path, project: Path) -> None:
    dry = ("deploy", str(project / "cortex.yaml"), "--dry-run")
    told = run(*dry).stdout
    assert told.startswith("would create adder (TaskAPI)\n  Python:    ")
    assert re.search(r"\n  travels:   adder.py \(\d+ B\)\n", told)
    assert "\nwould create waits (TaskAPI)\n" in told
    sizes = [{name: (project / name).stat().st_size} for name in ("adder.py", "waits.py")]
    assert [one["plan"]["files"] for one in answer(*dry)] == sizes
    assert answer("get") == []
    assert list((home / "apis").glob("*")) == []
    assert run("deploy", str(project / "cortex.yaml"), "--kernel", "python3").returncode == 1  # it has two APIs
    assert run("deploy", str(project / "adder.py"), "--kernel", "pyton3").stderr.startswith(
        "jupyter taskapi: adder: there is no kernel 'pyton3'; there are: python3"
    )
    assert run("deploy", str(project / "adder.py"), "--kernel", "python3").returncode == 0
    job = answer("submit", "adder", "a=1", "b=2", "--wait")["job_status"]
    assert job["python"] == {"path": sys.executable, "version": platform.python_version()}
    words = " ".join(run("get", job["job_id"]).stdout.split())
    assert f"Python: {platform.python_version()} {sys.executable}" in words


def test_a_job_from_end_to_end(home: Path, project: Path) -> None:
    deployed = answer("deploy", str(project / "cortex.yaml"), "-y")
    assert [one["api"]["spec"]["name"] for one in deployed] == ["adder", "waits"]
    done = run_apart("submit", "adder", "a=40", "--wait")
    assert done.returncode == 0, done.stderr
    assert "succeeded" in done.stdout
    jobs = answer("get", "--limit", "5")
    assert [job["config"] for job in jobs] == [{"a": 40}]
    job = jobs[0]["job_id"]
    assert answer("get", "adder", job)["job_status"]["status"] == "succeeded"
    assert answer("get", "adder", job[-6:])["job_status"]["job_id"] == job
    assert run_apart("logs", "adder", job).stdout == "adding\n"
    assert run("logs", job[-6:], "-n", "1", "--no-follow").stdout == "adding\n"
    assert {one["metadata"]["name"] for one in answer("get")} == {"adder", "waits"}
    assert [one["spec"]["name"] for one in answer("get", "adder")] == ["adder"]
    table = run_apart("get").stdout
    assert "adder" in table
    assert job in table
    assert answer("delete", "adder", "--force")["message"] == "deleted adder"


def test_values_are_literals_of_python_or_json(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    values = {
        "True": True,
        "null": None,
        "None": None,
        ".5": 0.5,
        "1_000": 1000,
        "{'a': (1, True)}": {"a": [1, True]},
        '{"a": true}': {"a": True},
        "[1, 'b']": [1, "b"],
        "'5'": "5",
        '"5"': "5",
        "{a}": "{a}",
        "$HOME": "$HOME",
        "[$a]": "[$a]",
        "f'{a}'": "f'{a}'",
        "it's": "it's",
        "2024-05-06": "2024-05-06",
        "a # b": "a # b",
    }
    pairs = [f"v{index}={text}" for index, text in enumerate(values)]
    submitted = answer("submit", "adder", *pairs, "--config", "{'lr': .5, 'on': True}", "--timeout", "1h30m")
    config = submitted["job_status"]["config"]
    assert config == {"lr": 0.5, "on": True, **{f"v{index}": value for index, value in enumerate(values.values())}}
    assert submitted["job_status"]["timeout"] == 5400
    assert "addre is not deployed; did you mean adder?" in run("submit", "addre").stderr


def test_a_deploy_warns_of_requirements_that_are_not_met(home: Path, project: Path) -> None:
    (project / "requirements.txt").write_text("no-such-package-anywhere>=3\n")
    done = run("deploy", str(project / "cortex.yaml"))
    assert done.returncode == 0
    assert "no-such-package-anywhere" in done.stdout


def test_stop_and_wait(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    status = answer("submit", "waits", "--timeout", "50", "--run-timeout", "15m")["job_status"]
    assert (status["timeout"], status["run_timeout"]) == (50, 900)
    job = status["job_id"]
    assert answer("delete", "waits", job)["message"] == f"stopped job {job}"
    done = run("wait", job)
    assert done.returncode == 1
    assert "stopped" in done.stdout
    again = run("delete", "waits", job)
    assert again.returncode == 1
    assert again.stderr.count("\n") == 1
    assert "not in progress" in again.stderr


def test_interrupting_logs_leaves_the_job_running(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    job = answer("submit", "waits")["job_status"]["job_id"]
    with subprocess.Popen([*PROGRAM, "logs", job], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == b"up\n"
        following.send_signal(signal.SIGINT)
        _, complaint = following.communicate(timeout=30)
        assert following.returncode == 130
    assert complaint.count(b"\n") == 1
    assert answer("get", "waits", job)["job_status"]["status"] == "running"


BAR = """
import os, sys

def task(config):
    print("start")
    for n in range(config["states"]):
        sys.stdout.write(f"\\r{n:06d} of many " + "#" * 60)
    sys.stdout.flush()
    os.write(1, b"\\n\\xff\\r\\nend")
"""


def bar_job(states: int) -> tuple[str, bytes]:
    """Submit a job that draws a bar; return its id, once it has ended, and what it wrote."""
    Path("bar.py").write_text(BAR)
    Path("bar.yaml").write_text("- {name: bar, kind: TaskAPI, definition: {path: bar.py}}\n")
    assert run("deploy", "bar.yaml").returncode == 0
    job = answer("submit", "bar", f"states={states}", "--wait")["job_status"]["job_id"]
    bar = "".join(f"\r{n:06d} of many {'#' * 60}" for n in range(states))
    return job, b"start\n" + bar.encode() + b"\n\xff\r\nend"


@pytest.mark.parametrize("served", [False, True])
def test_a_pipe_gets_bars_as_lines_and_raw_bytes(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, served: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    if served:
        server: LiveServer = request.getfixturevalue("live_server")
        monkeypatch.setenv("TASKAPI_URL", server.url)
        monkeypatch.setenv("TASKAPI_TOKEN", server.token)
    job, written = bar_job(20_000)
    last = f"019999 of many {'#' * 60}"
    for options in ([], ["--no-follow"]):
        assert run("logs", job, *options).stdout.rstrip("\n") == f"start\n{last}\n\ufffd\nend"
        assert run("logs", job, "-n", "3", *options).stdout.rstrip("\n") == f"{last}\n\ufffd\nend"
        assert answer("logs", job, *options)["log"].rstrip("\n") == f"start\n{last}\n\ufffd\nend"
        raw = subprocess.run([*PROGRAM, "logs", job, "--raw", *options], capture_output=True, timeout=60)
        assert (raw.returncode, raw.stdout, raw.stderr) == (0, written, b"")
    raw = subprocess.run([*PROGRAM, "logs", job, "--raw", "-n", "2"], capture_output=True, timeout=60)
    assert raw.stdout == b"\xff\r\nend"
    refused = run("logs", job, "--raw", "-o", "json")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)


def test_a_terminal_sees_the_bar_move(
    home: Path, project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    job, _ = bar_job(3_000)
    ours, theirs = os.openpty()
    with subprocess.Popen([*PROGRAM, "logs", job], stdout=theirs, stderr=subprocess.STDOUT) as showing:
        os.close(theirs)
        told = b""
        with suppress(OSError):  # how a terminal tells its end
            while data := os.read(ours, 1 << 16):
                told += data
        assert showing.wait(30) == 0
    os.close(ours)
    assert len(told) < 20_000
    assert f"\r002999 of many {'#' * 60}\r\n" in told.decode()


def test_raw_says_what_was_dropped(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (home / "config.yaml").write_text("log_max_bytes: 65536\n")
    job, written = bar_job(20_000)
    raw = subprocess.run([*PROGRAM, "logs", job, "--raw"], capture_output=True, timeout=60)
    assert len(raw.stdout) < 100_000
    assert written.startswith(raw.stdout[:16_000])
    assert written.endswith(raw.stdout[-16_000:])
    dropped = len(written) - len(raw.stdout)
    assert raw.stderr.decode() == f"jupyter taskapi: {dropped} bytes of output were dropped at byte 16384\n"


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["get", "nosuch"], 1, "nosuch is not deployed"),
        (["submit", "nosuch"], 1, "nosuch is not deployed"),
        (["logs", "nosuch"], 2, "no job 'nosuch'"),
        (["wait", "0123456789abcdef"], 1, "unable to find"),
        (["deploy", "nosuch.yaml"], 2, "there is no file"),
        (["submit", "x", "lr"], 2, "key=value"),
        (["submit", "x", "--config", "[1]"], 2, "JSON object"),
        (["submit", "x", "--timeout", "0"], 2, "must be from 1 to 1000000000 seconds, not 0"),
        (["submit", "x", "--timeout", "soon"], 2, "a time such as 90 (seconds), 90s, 15m or 1h30m, not 'soon'"),
        (["wait", "last", "--timeout", "1.5"], 2, "a time such as 90 (seconds)"),
        (["submit", "x", "nan=NaN"], 2, "nan is nan, which JSON can't carry"),
        (["submit", "x", "--config", "{'lr': inf}"], 2, "--config.lr is inf, which JSON can't carry"),
        (["submit", "x", "--run-timeout", "soon"], 2, "must be a time such as 90"),
        (["get", "--env", "elsewhere"], 1, "there are: local"),
        (["bogus"], 2, "invalid choice"),
        ([], 2, "VERB"),
    ],
)
def test_mistakes(home: Path, arguments: list[str], code: int, words: str) -> None:
    done = run(*arguments)
    assert done.returncode == code, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_environments_as_the_cortex_client_reads_them(home: Path) -> None:
    listed = answer("env", "list")
    assert listed["default_environment"] == "local"
    assert [one["name"] for one in listed["environments"]] == ["local"]


def test_through_a_server(live_server: Any, project: Path, tmp_path: Path) -> None:
    unused = tmp_path / "unused"
    there = {"TASKAPI_URL": live_server.url, "TASKAPI_TOKEN": live_server.token, "TASKAPI_HOME": str(unused)}
    answer("deploy", str(project / "cortex.yaml"), **there)
    done = run("submit", "adder", "b=3", "--wait", **there)
    assert done.returncode == 0, done.stderr
    assert answer("result", "last", **there) == 4
    assert answer("files", "last", **there) == []
    assert "submitted" in run("rerun", "last", **there).stdout
    (api,) = answer("get", "adder", **there)
    assert api["endpoint"].endswith("/taskapi/local/tasks/adder")
    for name in ("adder", "waits"):
        answer("delete", name, **there)
    assert not unused.exists()


def test_serve_is_a_server_with_this_extension_alone(home: Path, tmp_path: Path) -> None:
    port, log = reserved_port(), tmp_path / "server.log"
    url = f"http://127.0.0.1:{port}/"
    command = [*PROGRAM, "serve", "--port", str(port), "--", "--allow-root"]
    with log.open("wb") as file:
        server = subprocess.Popen(
            command, env={**os.environ, "JUPYTER_TOKEN": "secret"}, cwd=tmp_path, stdout=file, stderr=file
        )
    there = {"TASKAPI_URL": url, "TASKAPI_TOKEN": "secret"}
    try:
        until(lambda: server.poll() is not None or run("env", **there).returncode == 0, "the server to answer")
        assert server.poll() is None, log.read_text()
        assert answer("env", "list", **there)["default_environment"] == "local"
        loaded = [line for line in log.read_text().splitlines() if "successfully loaded" in line]
        assert len(loaded) == 1
        assert "taskapi_jupyter" in loaded[0]
    finally:
        server.terminate()
        server.wait()


# Forms of answers


def test_text_with_json_behind_it(home: Path, project: Path) -> None:
    done = run("deploy", str(project / "cortex.yaml"), "--env", "local", "-o", "mixed", "-y", "--force")
    assert done.returncode == 0, done.stderr
    *words, last = done.stdout.splitlines()
    assert "adder" in words[0]
    empty, encoded, end = last.split("~~cortex~~")
    assert (empty, end) == ("", "")
    assert [one["api"]["spec"]["name"] for one in json.loads(base64.b64decode(encoded))] == ["adder", "waits"]


def test_watching_prints_a_document_a_line(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    with subprocess.Popen(
        [*PROGRAM, "get", "adder", "--watch", "-o", "json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as watching:
        assert watching.stdout is not None
        for count in range(2):
            (api,) = json.loads(watching.stdout.readline())
            assert (api["spec"]["name"], len(api["task_job_statuses"])) == ("adder", count)
            if not count:
                assert answer("submit", "adder", "--wait")["job_status"]["status"] == "succeeded"
        watching.send_signal(signal.SIGINT)
        _, complaint = watching.communicate(timeout=30)
        assert (watching.returncode, complaint.count(b"\n")) == (130, 1)


def test_logs_and_versions_as_json(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    job = answer("submit", "adder", "--wait")["job_status"]["job_id"]
    log = {"job_id": job, "log": "adding\n"}
    assert answer("logs", "adder", job, "-y") == answer("logs", "last", "--no-follow") == log
    assert answer("version") == {"cli_version": __version__}
    assert run("version").stdout == f"cli version: {__version__}\n"
    assert run("--version").stdout == f"{__version__}\n"


def test_a_reader_that_leaves_ends_it_quietly(home: Path) -> None:
    with subprocess.Popen([*PROGRAM, "get"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as left:
        assert left.stdout is not None
        assert left.stderr is not None
        left.stdout.close()
        assert left.stderr.read() == b""
        assert left.wait(60) == 141


def test_an_output_that_knows_few_characters(home: Path, project: Path) -> None:
    assert run("deploy", str(project / "cortex.yaml")).returncode == 0
    for arguments in (["submit", "adder", "a=1", "b=2", "c=π", "--wait"], ["get"]):
        assert run_apart(*arguments, PYTHONIOENCODING="ascii").returncode == 0
    done = run_apart("get", "adder", "-o", "json", PYTHONIOENCODING="ascii")
    assert json.loads(done.stdout)[0]["task_job_statuses"][0]["config"]["c"] == "π"


# Terminals

Steps = Sequence[tuple[str, Callable[[subprocess.Popen[bytes]], object]]]


def on_terminal(width: int, *arguments: str, then: Steps = (), code: int = 0, **environ: str) -> str:
    """Return what a command prints on a terminal of that width; of ``then``, what is done once a pattern was printed."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    unset = ("COLUMNS", "NO_COLOR", "TERM")
    variables = {name: value for name, value in os.environ.items() if name not in unset}
    program = subprocess.Popen(
        [*PROGRAM, *arguments], env={**variables, "TERM": "xterm", **environ}, stdin=its, stdout=its, stderr=its
    )
    os.close(its)
    data = b""
    try:
        while piece := os.read(ours, 65536):
            data += piece
            while then and re.search(then[0][0].encode(), data):
                (_, do), *then = then
                do(program)
    except OSError:  # as a terminal ends on Linux
        pass
    os.close(ours)
    assert program.wait(60) == code, data
    return data.decode().replace("\r\n", "\n")


@pytest.fixture
def jobs(service: Service) -> dict[str, str]:
    """Return the ids of jobs by how they ended; names, configurations and reasons are as bad as can be."""
    source = "def task(config):\n    if config:\n        raise ValueError('\\x1b[31m\\u202e 東京' * 20)\n"
    wide = request_for("api-with-a-long-name-" + "x" * 40, source)
    service.deploy_request(wide)
    service.deploy_request(request_for("hold", "import time\n\ndef task(config):\n    time.sleep(60)\n"))
    good = service.submit(wide.spec["name"]).wait(PATIENCE)
    bad = service.submit(wide.spec["name"], {"city": "東京\x1b]0;owned\x07" * 20}).wait(PATIENCE)
    held = service.submit("hold")
    until(lambda: held.refresh().status == "running", "it to run")
    stopped = service.submit("hold", {"n": 1})
    stopped.stop()
    return {"succeeded": good.id, "worker error": bad.id, "running": held.id, "stopped": stopped.id}


SGR = {"succeeded": "32", "worker error": "31", "running": "34", "stopped": "2"}


def test_tables_on_a_terminal(jobs: dict[str, str]) -> None:
    for width in (40, 60, 200):
        shown = on_terminal(width, "get")
        plain = re.sub(r"\x1b\[\d*m", "", shown)
        assert not {"\x1b", "\x07", "\u202e"} & set(plain)
        assert max(map(columns, plain.splitlines())) <= width
        begins = set()
        for status, job in jobs.items():
            (line,) = [line for line in shown.splitlines() if line.startswith(f"{job[-6:]}  ")]
            before, coloured, after = line.partition(f"\x1b[{SGR[status]}m")
            assert coloured
            assert after.startswith((f"{status}\x1b[0m", f"{status[:9]}…\x1b[0m")[: 1 + (width == 40)])
            begins.add(columns(before))
        assert len(begins) == 1
        if width >= 60:
            assert {"status", "submitted", "took"} <= {*plain.partition("\n\n")[2].split("\n")[0].split()}
    assert all(job in on_terminal(60, "get", "-o", "wide") for job in jobs.values())
    assert all(job in run("get").stdout for job in jobs.values())  # what is no terminal gets all of it
    for unwanted in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        assert "\x1b" not in on_terminal(80, "get", **unwanted)


def test_one_thing_on_a_terminal(jobs: dict[str, str]) -> None:
    assert "\x1b[31mworker error\x1b[0m" in on_terminal(80, "get", jobs["worker error"])
    assert "\x1b[34mrunning\x1b[0m" in on_terminal(80, "get", "hold")
    for arguments in (["get", "-o", "json"], ["get", "hold", "-o", "json"]):
        assert json.loads(shown := on_terminal(80, *arguments))
        assert "\x1b" not in shown
    assert "\x1b" not in run("get").stdout


def test_a_watch_is_drawn_again_in_its_place(jobs: dict[str, str]) -> None:
    steps: Steps = [
        ("running", lambda _: run("stop", jobs["running"])),
        (r"\x1b\[H" + 2 * r"(?:(?!\x1b\[H)[\s\S])*stopped", lambda program: program.send_signal(signal.SIGINT)),
    ]
    shown = on_terminal(60, "get", "hold", "--watch", then=steps, code=130)
    before, entered, inside = shown.partition("\x1b[?1049h\x1b[?25l\x1b[?7l")
    drawn, left, after = inside.partition("\x1b[?7h\x1b[?25h\x1b[?1049l")
    assert (before, bool(entered), bool(left)) == ("", True, True)
    assert drawn.count("\x1b[H") >= 2
    assert after.splitlines()[0] == "hold"  # the last picture stays, and then says that it was interrupted
    assert after.splitlines()[-1] == "jupyter taskapi: interrupted; jobs go on"
    assert after.count("stopped\x1b[0m") == 2


# Further verbs

LEFT = r"""
import os

def task(config):
    if config.get("fails"):
        raise ValueError("no")
    folder = os.path.join(os.environ["TASKAPI_OUTPUT_DIR"], "deep")
    os.mkdir(folder)
    for name, text in (("b\u202e.txt", "bytes"), ("a.bin", "\0" * 2048)):
        with open(os.path.join(folder, name), "w") as file:
            file.write(text)
    return config.get("value", {"loss": 0.1, "text": "\x1b[31m"})
"""


def test_what_a_job_leaves(service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    service.deploy_request(request_for("leaves", LEFT))
    job = service.submit("leaves").wait(PATIENCE)
    text = service.submit("leaves", {"value": "a\x1b[31m\nb"}).wait(PATIENCE)
    assert run("result", "leaves", job.id[-6:]).stdout == "{'loss': 0.1, 'text': '\\x1b[31m'}\n"
    assert answer("result", job.id) == {"loss": 0.1, "text": "\x1b[31m"}
    assert run("result", text.id).stdout == "a\x1b[31m\nb\n"  # for what reads it, as it is
    assert on_terminal(80, "result", text.id) == "a\\x1b[31m\nb\n"
    listed = run("files", job.id)
    assert [line.split()[-1] for line in listed.stdout.splitlines()] == ["file", "deep/a.bin", "deep/b\\u202e.txt"]
    assert [one["path"] for one in answer("files", job.id)] == ["deep/a.bin", "deep/b\u202e.txt"]
    assert "\u202e" not in listed.stdout
    assert run("files", job.id, "deep/b\u202e.txt").stdout == "bytes"
    monkeypatch.chdir(tmp_path)
    saved = run("files", job.id, "--dir", "there")
    assert (saved.returncode, saved.stderr) == (0, "jupyter taskapi: 2 files saved, 2.0 KiB\n")
    assert (tmp_path / "there" / "deep" / "a.bin").read_bytes() == bytes(2048)
    for arguments, code, words in (
        (["files", job.id, "--dir", "there"], 1, "there/deep/a.bin is there already: choose another folder"),
        (["files", job.id, "../job.json", "-d", "new"], 1, "'../job.json' leads out of the job's folder"),
        (["files", job.id, "../job.json"], 1, "job.json"),
        (["files", job.id, "deep/a.bin", "-o", "json"], 2, "-o json lists files"),
        (["result"], 2, "the following arguments are required"),
        (["stop"], 2, "which job?"),
        (["stop", "a", "b", "--all"], 2, "--all takes at most one API"),
        (["rerun", job.id, "--failed"], 2, "--failed is for groups"),
        (["logs", job.id, "-f", "--no-follow"], 2, "not allowed with"),
    ):
        done = run(*arguments)
        assert (done.returncode, done.stdout) == (code, "")
        assert words in done.stderr
    assert not (tmp_path / "new").exists()


def test_stop_and_run_again(service: Service) -> None:
    service.deploy_request(request_for("leaves", LEFT))
    service.deploy_request(request_for("waits", "import time\ndef task(config):\n    time.sleep(600)\n"))
    one, two, three = (service.submit("waits").id for _ in range(3))
    assert run("stop", one).stdout == f"job {one} stopped\n"
    assert answer("stop", "waits", two[-6:]) == {"message": f"stopped job {two}"}
    assert run("stop", "waits", "--all").stdout == f"job {three} stopped\n"
    assert run("stop", "--all").stdout == "no jobs are in progress\n"
    assert f"{one} (waits api): cannot stop" in run("stop", one).stderr
    first = run("rerun", one)
    again = re.fullmatch(r"job (\w+) of waits submitted\n", first.stdout)
    assert again, first
    assert run("delete", "waits").stdout == "api waits deleted\n"
    assert service.job_response(again[1]).job_status.status == "stopped"
    group = service.map("leaves", [{"n": 1}, {"fails": True}], name="some").wait(PATIENCE)
    told = run("rerun", "some", "--failed")
    assert told.stdout == "group some submitted, 1 job of leaves\n"
    assert run("stop", group.id).stdout == f"0 jobs of group some ({group.id}) stopped\n"
    assert run("rerun", group[0].id, "--wait").returncode == 0
    assert run("status", "leaves").stdout == run("get", "leaves").stdout
    assert run("help", "stop").stdout == run("stop", "--help").stdout


# Clusters


@pytest.fixture
def cluster(home: Path, project: Path) -> Iterator[Operator]:
    """Return a cluster that is the environment ``prod`` and has the API ``adder``."""
    with Operator("0.42.1", manual=True) as operator:
        done = run("env", "configure", "prod", "-o", operator.url, "--version", "0.42.1")
        assert done.returncode == 0, done.stderr
        (project / "cortex.yaml").write_text(YAML.partition("- name: waits")[0])
        done = run("deploy", str(project / "cortex.yaml"), "--env", "prod")
        assert done.returncode == 0, done.stderr
        yield operator


def test_a_cluster_has_the_same_verbs(cluster: Operator) -> None:
    job = answer("submit", "adder", "a=2", "-e", "prod")["job_status"]["job_id"]
    assert cluster.jobs[job].config == {"a": 2}
    cluster.start(job)
    assert answer("get", "adder", job, "--env", "prod")["job_status"]["status"] == "running"
    assert job in run("get", "--env", "prod").stdout
    assert "adder" in run("get", "adder", "--env", "prod").stdout
    cluster.finish(job, "succeeded")
    assert run("wait", "adder", job, "--env", "prod").returncode == 0
    again = run("delete", "adder", job, "--env", "prod")
    assert (again.returncode, "not in progress" in again.stderr) == (1, True)
    assert run("version", "--env", "prod").stdout.splitlines()[1] == "cluster version: 0.42.1"
    assert answer("delete", "adder", "--env", "prod")["message"] == "deleting adder"


def test_what_a_cluster_does_not_keep_is_no_failure(cluster: Operator) -> None:
    job = answer("submit", "adder", "--env", "prod")["job_status"]["job_id"]
    cluster.start(job)
    cluster.finish(job, "succeeded")
    done = run("logs", "adder", job, "--env", "prod")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (0, "", 1)
    assert "while it runs" in done.stderr
    done = run("packages", "--env", "prod")
    assert (done.returncode, done.stdout, "builds no environments" in done.stderr) == (0, "", True)
    assert answer("logs", "adder", job, "--env", "prod") is None


def test_a_submission_is_answered_before_the_cluster_knows_it(cluster: Operator) -> None:
    cluster.lag = 60
    done = run("submit", "adder", "-e", "prod")
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"job \w+ of adder submitted\n", done.stdout)


def test_doctor_says_what_is_wrong_with_a_home(home: Path) -> None:
    done = run("doctor")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"home: {home}\nversion: ")
    assert done.stdout.endswith("\nno problems found\n")
    home.mkdir(exist_ok=True)
    (home / "config.yaml").write_text("cpus: many\n")
    done = run("doctor")
    assert (done.returncode, done.stderr) == (1, "")
    told = json.loads(run("doctor", "-o", "json").stdout)
    assert [one.startswith(f"{home / 'config.yaml'}: ") for one in told["problems"]] == [True]
    assert done.stdout.splitlines()[-1:] == told["problems"]
