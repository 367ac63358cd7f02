"""Schedules in a notebook's shell and in a terminal, and what wakes them after a reboot."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from support import ECHO, TESTS, request_for, until
from support.cortex_double import Operator
from support.homes import has_ended, stop_supervisor, supervisor_of
from support.notebooks import code, put
from support.program import answer, run_apart
from support.program import run as program
from support.shells import Run
from taskapi_jupyter.client.schedules.schedule import Schedule, ScheduleList
from taskapi_jupyter.client.taskapi import Job
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest, Conflict, ScheduleNotFound
from taskapi_jupyter.service import reboot
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.supervisor.wake import Waker
from taskapi_jupyter.ui.magics.complete import Completer

pytestmark = pytest.mark.local

CRON = '"0 6 * * MON-FRI"'
LEAP = "0 6 29 2 *"
DOUBLES = """%%taskapi deploy doubles --cpu 10m
def task(config):
    return {"twice": config["n"] * 2}
"""


def test_a_schedule_of_the_magic(run: Run, shell: InteractiveShell) -> None:
    run(DOUBLES).value()
    shell.user_ns["n"] = 4
    line = "n=$n --tz Europe/Berlin --name nightly --overlap queue --catch-up none --max-late 1h --until 2040-01-01"
    made = run(f"%taskapi schedule doubles {CRON} {line} --timeout 1h --retries 2 --keep 5 --pin").value()
    assert isinstance(made, Schedule)
    record = made.record
    assert (made.name, made.cron, made.tz, made.config) == ("nightly", "0 6 * * MON-FRI", "Europe/Berlin", {"n": 4})
    assert (record.overlap, record.catch_up, record.max_late, record.until) == (
        "queue", "none", 3600, "2040-01-01T22:59:59.999999Z"
    )  # fmt: skip
    assert (record.timeout, record.retries, record.keep, bool(record.api_id)) == (3600, 2, 5, True)
    job = run("%taskapi schedule nightly --run --wait").value()
    assert (isinstance(job, Job), job.result(), job.record.schedule) == (True, {"twice": 8}, "nightly")
    assert run("%taskapi schedule nightly").value().last_job == job
    assert run("%taskapi schedule nightly --pause").value().state == "paused"
    assert run("%taskapi schedule nightly --resume").value().state.startswith("next in ")
    listed = run("%taskapi schedules").value()
    assert (isinstance(listed, ScheduleList), listed) == (True, [made])
    for shown in (repr(listed), listed._repr_html_()):
        assert "At 06:00 on Monday through Friday (Europe/Berlin)" in shown
        assert "after a reboot" in shown
    assert run("%taskapi schedule nightly --delete").out == "deleted schedule nightly\n"
    assert isinstance(run("%taskapi schedule nightly").error, ScheduleNotFound)
    assert repr(run("%taskapi schedules").value()) == "no schedules"


def test_forms_of_when(run: Run) -> None:
    run(DOUBLES).value()
    for number, (written, kept) in enumerate(
        (
            ("every 15m", "every 15m"),
            ("'every 15m'", "every 15m"),
            ("@daily", "@daily"),
            ("at 2040-12-24T18:00", "at 2040-12-24T18:00"),
            ("0 0 * * 5#1", "0 0 * * 5#1"),
        )
    ):
        assert run(f"%taskapi schedule doubles {written} n=1 --name s{number}").value().cron == kept
    out = run("%taskapi schedule doubles every 1h n=1\n1").out
    assert out.startswith("schedule doubles of doubles: Every hour (")
    assert ", next in 1 h\n" in out


def test_times_are_shown_and_nothing_is_made(run: Run) -> None:
    shown = run(f"%taskapi schedule nothing '{LEAP}' --tz Europe/Berlin --next 2").value()
    assert repr(shown).splitlines() == [
        "At 06:00 on February 29 (Europe/Berlin)",
        "  2028-02-29 06:00:00+01:00",
        "  2032-02-29 06:00:00+01:00",
    ]
    assert "2032-02-29 06:00:00+01:00" in shown._repr_html_()
    assert run("%taskapi schedules").value() == []
    run(DOUBLES).value()
    made = run(f"%taskapi schedule doubles '{LEAP}' n=1 --tz UTC").value()
    assert repr(run("%taskapi schedule doubles --next 1").value()).splitlines()[1:] == ["  2028-02-29 06:00:00+00:00"]
    assert made.pause().active is False


def test_a_notebook_is_deployed_first(run: Run, tmp_path: Path) -> None:
    put(tmp_path / "project" / "report.ipynb", code("lr = 0.1", "parameters"), code("lr"))
    made = run("%taskapi schedule report.ipynb @daily lr=0.2 --name mornings --cpu 10m").value()
    assert (made.name, made.api_name, made.config) == ("mornings", "report", {"lr": 0.2})
    wrong = run("%taskapi schedule report.ipynb @daily rl=0.2").error
    assert isinstance(wrong, BadRequest)
    assert "there is no parameter 'rl'" in str(wrong)
    done = answer("schedule", "add", "report.ipynb", "@daily", "lr=0.3", "--name", "evenings")
    assert (done["name"], done["api"], done["config"]) == ("evenings", "report", {"lr": 0.3})


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("schedule", "needs an API and when"),
        ("schedule doubles n=1", "n goes with when it fires, such as"),
        ("schedule doubles --tz UTC", "--tz goes with when it fires"),
        ("schedule doubles @daily --pause", "--pause is for a schedule that there is"),
        ("schedule doubles --pause --resume", "give one of --pause and --resume"),
        ("schedule doubles --wait", "--wait goes with --run"),
        ("schedule doubles @daily --html", "--html is for a notebook"),
        ("schedule doubles @daily --pim", "did you mean --pin"),
        ("schedules x", "one schedule: %taskapi schedule NAME"),
    ],
)
def test_mistakes(run: Run, line: str, said: str) -> None:
    error = run(f"%taskapi {line}").error
    assert isinstance(error, UsageError)
    assert said in str(error)


def test_more_mistakes(run: Run) -> None:
    run(DOUBLES).value()
    run("%taskapi schedule doubles @daily n=1").value()
    for line, kind, said in (
        ("doubles @dayly", BadRequest, "did you mean @daily"),
        ("doubles 0 6 * *", BadRequest, "has 4 fields"),
        ("doubles @daily --overlap both", BadRequest, "overlap must be one of skip, queue, stop, allow"),
        ("doubles @daily --tz Berlin", BadRequest, "Europe/Berlin"),
        ("doubles @daily", Conflict, "doubles"),
        ("doublse @daily", APINotDeployed, "did you mean doubles"),
        ("doublse", ScheduleNotFound, "did you mean doubles"),
    ):
        error = run(f"%taskapi schedule {line}").error
        assert isinstance(error, kind), (line, error)
        assert said in str(error), line
    assert run("%taskapi schedule doubles @hourly --replace").value().cron == "@hourly"


def test_completion_of_the_magic() -> None:
    known = {"apis": ["train"], "schedules": ["nightly"], "parameters train": ["lr="]}
    completer = Completer(lambda what: known.get(what, []), {})
    assert {"train", "nightly"} <= set(completer.complete("%taskapi schedule "))
    assert {"--pause", "--tz", "--next"} <= set(completer.complete("%taskapi schedule nightly --"))
    assert completer.complete("%taskapi schedule train @daily --overlap ") == ["skip", "queue", "stop", "allow"]
    assert "Europe/Berlin" in completer.complete("%taskapi schedule train @daily --tz ")
    assert completer.complete("%taskapi schedule train @daily l") == ["lr="]


def test_a_cluster_keeps_none(run: Run, home: Path) -> None:
    with Operator() as operator:
        operator.deploy("hello")
        cluster = f"name: prod, provider: cortex, operator_endpoint: '{operator.url}', version: '{operator.version}'"
        (home / "environments.yaml").write_text(f"environments: [{{{cluster}}}]\n")
        run("%taskapi env prod").value()
        assert "keeps no schedules" in run("%taskapi schedules").out
        assert isinstance(run("%taskapi schedule hello @daily").error, BadRequest)
        done = program("schedule", "add", "hello", "@daily", "--env", "prod")
        assert (done.returncode, "prod is a Cortex cluster, which keeps no schedules" in done.stderr) == (1, True)
        assert program("schedule", "list", "--env", "prod").returncode == 0


# The terminal


@pytest.fixture
def train(service: Service) -> str:
    """Return the name of an API."""
    service.deploy_request(request_for("train", ECHO))
    return "train"


def test_a_schedule_of_the_terminal(train: str) -> None:
    made = answer("schedule", "add", train, "0 6 * * MON-FRI", "lr=0.1", "--tz", "Europe/Berlin", "--name", "nightly")
    assert (made["name"], made["schedule"], made["config"]) == ("nightly", "0 6 * * MON-FRI", {"lr": 0.1})
    assert answer("schedule", "add", train, "every", "15m", "--retries", "1")["schedule"] == "every 15m"
    listed = answer("schedule")
    assert ([one["name"] for one in listed["schedules"]], listed) == (["nightly", "train"], answer("schedule", "list"))
    assert listed["hint"] == reboot.NOT_INSTALLED
    text = program("schedule", "list", "-o", "wide").stdout
    assert "At 06:00 on Monday through Friday (Europe/Berlin)" in text
    assert "(not installed: after a reboot they wait until Jupyter or `jupyter taskapi` is next used" in text
    job = answer("schedule", "run", "nightly", "--wait")["job_status"]
    assert (job["status"], job["schedule"]) == ("succeeded", "nightly")
    assert answer("schedule", "show", "nightly")["last_job_id"] == job["job_id"]
    assert f"succeeded {job['job_id']}" in program("schedule", "show", "nightly").stdout
    assert [answer("schedule", one, "nightly")["active"] for one in ("pause", "resume")] == [False, True]
    assert len(answer("schedule", "next", "nightly", "-n", "3")["times"]) == 3
    shown = program("schedule", "next", LEAP, "--tz", "Europe/Berlin", "-n", "1").stdout
    assert shown == "At 06:00 on February 29 (Europe/Berlin)\n  2028-02-29 06:00:00+01:00\n"
    assert program("schedule", "delete", "nightly").stdout == "schedule nightly deleted\n"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("add train", 2, "when? Quote it after the API"),
        ("add train n=1", 2, "when?"),
        ("add train @daily --html", 2, "--html is for a notebook"),
        ("add train @daily --tz Berlin", 1, "did you mean Europe/Berlin"),
        ("add nope @daily", 1, "nope is not deployed"),
        ("show nope", 1, "no schedule nope"),
        ("next train --tz UTC", 2, "--tz goes with when"),
        ("next 61_6", 1, "no schedule"),
    ],
)
def test_mistakes_in_a_terminal(train: str, words: str, code: int, said: str) -> None:
    done = program("schedule", *words.split())
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr


def test_wake_starts_a_supervisor_where_an_active_schedule_has_none(train: str, home: Path) -> None:
    def woken() -> Any:
        return answer("schedule", "wake")["message"]

    assert woken() == "nothing to do"
    answer("schedule", "add", train, "@daily")
    until(Waker(str(home)).alive, "the supervisor that was started")
    assert woken() == "nothing to do"
    stop_supervisor(home, signal.SIGKILL)
    lock = home / "supervisor.lock"
    before = lock.read_bytes()
    done = run_apart("schedule", "wake")
    assert (done.returncode, done.stdout, done.stderr) == (0, "schedules were woken\n", "")
    until(lambda: lock.read_bytes() not in (before, b""), "a supervisor to run")
    until(Waker(str(home)).alive, "it to be seen")
    assert woken() == "nothing to do"
    answer("schedule", "pause", train)
    until(lambda: not Waker(str(home)).alive(), "the supervisor to end")
    assert woken() == "nothing to do"


# After a reboot

CRONTAB = """#!/bin/sh
case "$1" in
  -l) test -f "$CRONTAB_FILE" || { echo "no crontab for $USER" >&2; exit 1; }; cat "$CRONTAB_FILE" ;;
  -) cat > "$CRONTAB_FILE" ;;
  *) exit 2 ;;
esac
"""


@pytest.fixture
def crontab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return the file of a user's crontab; the program that reads and writes it stands in for cron's."""
    folder, file = tmp_path / "bin", tmp_path / "crontab"
    folder.mkdir()
    (folder / "crontab").write_text(CRONTAB)
    (folder / "crontab").chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("CRONTAB_FILE", str(file))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(reboot, "_BOOTED", str(tmp_path / "not"))  # whatever runs this machine
    reboot._known.clear()
    yield file
    reboot._known.clear()


def test_lines_of_a_crontab(train: str, crontab: Path, home: Path) -> None:
    """They are printed, written, replaced and removed; what else is there stays as it is."""
    theirs = "MAILTO=me\n# a comment\n0 5 * * * echo '100 \\% done' # taskapi_jupyter: schedules of /elsewhere\n"
    crontab.write_text(theirs)
    lines = answer("schedule", "install")["lines"]
    assert crontab.read_text() == theirs
    assert [line.partition(" TASKAPI_HOME=")[0] for line in lines] == ["@reboot", "*/15 * * * *"]
    for _ in range(2):
        done = program("schedule", "install", "--write")
        assert done.stdout.startswith("written to your crontab: installed: after a reboot, your crontab wakes them")
        assert crontab.read_text() == theirs + "".join(f"{line}\n" for line in lines)
    answer("schedule", "add", train, "@daily")
    assert answer("schedule", "list")["hint"] == "installed: after a reboot, your crontab wakes them"

    stop_supervisor(home, signal.SIGKILL)
    command = lines[0].removeprefix("@reboot ").replace("\\%", "%")  # as cron hands it to the shell
    subprocess.run(["sh", "-c", command], check=True, env={"PATH": "/usr/bin:/bin", "HOME": str(home)}, timeout=60)
    until(lambda: not has_ended(supervisor_of(home)), "the supervisor that it started")

    assert program("schedule", "uninstall").stdout == "removed the lines of your crontab\n"
    assert crontab.read_text() == theirs
    assert program("schedule", "uninstall").stdout == "nothing was installed for this home\n"
    assert answer("schedule", "list")["hint"] == reboot.NOT_INSTALLED


def test_a_home_with_an_odd_name(crontab: Path, tmp_path: Path) -> None:
    home = tmp_path / "it's 100% $HOME; touch x"
    home.mkdir()
    reboot.install(home, reboot.plan(home))
    line = crontab.read_text().splitlines()[0].removeprefix("@reboot ")
    assert "%" not in line.replace("\\%", "")
    echo = line.replace("\\%", "%").replace(
        "-m taskapi_jupyter.ui.cli", "-c 'import os; print(os.environ[\"TASKAPI_HOME\"])'"
    )
    done = subprocess.run(["sh", "-c", echo.replace(">/dev/null", "")], capture_output=True, text=True, cwd=tmp_path)
    assert (done.stdout, list(tmp_path.glob("x"))) == (f"{home}\n", [])
    assert reboot.hint(home).startswith("installed")
    assert reboot.uninstall(home) == ["the lines of your crontab"]
    assert crontab.read_text() == ""
    with pytest.raises(BadRequest, match="not printable"):
        reboot.plan(tmp_path / "two\nlines")


def test_a_crontab_that_fails_is_left_alone(home: Path, crontab: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "crontab").write_text("#!/bin/sh\necho 'you are not allowed to use this program' >&2\nexit 1\n")
    done = program("schedule", "install", "--write")
    assert (done.returncode, done.stdout) == (1, "")
    assert "`crontab -l` failed, so that nothing was changed: you are not allowed to use this program" in done.stderr
    assert not crontab.exists()


def test_systemctl_without_systemd(home: Path, crontab: Path, tmp_path: Path) -> None:
    (tmp_path / "bin" / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (tmp_path / "bin" / "systemctl").chmod(0o700)
    done = program("schedule", "install")
    assert "systemd does not run here: these are lines for your crontab" in done.stderr
    assert done.stdout.startswith("@reboot TASKAPI_HOME=")


SYSTEMCTL = """#!/bin/sh
echo "$@" >> "$CRONTAB_FILE.systemctl"
case "$*" in
  "--user enable --now "*) mkdir -p "$XDG_CONFIG_HOME/systemd/user/timers.target.wants"
    ln -sf "../$4" "$XDG_CONFIG_HOME/systemd/user/timers.target.wants/$4" ;;
  "--user disable --now "*) rm -f "$XDG_CONFIG_HOME/systemd/user/timers.target.wants/$4" ;;
esac
"""


def test_a_timer_of_systemd(
    train: str, home: Path, crontab: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where systemd runs; here a program stands in for the one that speaks to it."""
    monkeypatch.setattr(reboot, "_BOOTED", str(tmp_path))
    monkeypatch.setattr(reboot, "_LINGER", str(tmp_path / "linger"))
    (tmp_path / "bin" / "systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin" / "systemctl").chmod(0o700)
    plan = answer("schedule", "install")
    service, timer = map(Path, plan["files"])
    assert (plan["kind"], plan["lines"], service.suffix, timer.suffix) == ("systemd", [], ".service", ".timer")
    assert not timer.exists()
    done = program("schedule", "install", "--write")
    assert "`loginctl enable-linger`" in done.stderr
    assert "a systemd timer wakes them once you log in" in done.stdout
    assert [path.read_text() for path in (service, timer)] == list(plan["files"].values())
    mine = service.parent / "mine.timer"
    mine.write_text("[Timer]\n")
    answer("schedule", "add", train, "@daily")
    assert answer("schedule", "list")["hint"].startswith("installed: after a reboot, a systemd timer wakes them")
    assert program("schedule", "uninstall").stdout.startswith("removed the systemd timer taskapi-schedules-")
    assert [path.name for path in service.parent.rglob("*") if path.is_file() or path.is_symlink()] == ["mine.timer"]
    assert "--user disable --now" in Path(f"{crontab}.systemctl").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
@pytest.mark.parametrize("name", ["home", 'a b%n"$x\\é'])
def test_units_are_valid(crontab: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    files = reboot._units(tmp_path / name)
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    verify = ["systemd-analyze", "verify", "--user", "--man=no", *map(str, files)]
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(tmp_path / "run")}
    done = subprocess.run(verify, capture_output=True, text=True, timeout=60, env=environ)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


GUIDE = (TESTS.parent / "docs" / "schedules.md").read_text("utf-8")


def test_lines_of_the_guide(run: Run, tmp_path: Path) -> None:
    run("%%taskapi deploy train --cpu 10m\ndef task(config):\n    return config").value()
    put(tmp_path / "project" / "report.ipynb", code("lr = 0.1", "parameters"), code("lr"))
    lines = re.findall(r"^%taskapi .*", GUIDE, re.M)
    make, look = re.findall(r"^```python\n(.*?)^```$", GUIDE, re.M | re.S)
    run(f"import taskapi_jupyter\n{make}").value()
    for line in lines:  # the first makes one of the API's name, the second another one
        run(f"{line} --name often" if "every 15m" in line else line).value()
    run(make).value()
    run(look).value()
    assert [one.name for one in run("tasks.schedules()").value()] == ["mornings", "often", "train"]
