"""``%taskapi`` in a real IPython shell on the real Service, and once through a server and in a kernel."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import ModuleType
from typing import Any

import nbclient
import nbformat
import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.manager import start_new_kernel

from support import until
from support.servers import LiveServer
from support.shells import Ran, Run
from taskapi_jupyter._version import __version__
from taskapi_jupyter.client.taskapi import Job, JobList
from taskapi_jupyter.core.contract import API
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    BadRequest,
    Forbidden,
    JobFailed,
    JobNotFound,
    JobNotInProgress,
)
from taskapi_jupyter.display.screen import rewritten
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui.verbs import ALIASES, VERBS

ECHO = """%%taskapi deploy echo
def task(config):
    print("hello", config)
    return config
"""

WAITING = """%%taskapi deploy waiting
import pathlib, time

def task(config):
    print("waiting", flush=True)
    while not pathlib.Path(config["path"]).exists():
        time.sleep(0.01)
"""


@pytest.fixture
def go_on(shell: InteractiveShell, tmp_path: Path) -> Iterator[Path]:
    """Return the file that jobs of ``waiting`` wait for; it is variable ``go_on`` in the shell."""
    path = tmp_path / "go-on"
    shell.user_ns["go_on"] = str(path)
    yield path
    path.touch()


def usage_error(ran: Ran, *words: str) -> None:
    """Check that a cell ended in a one-line UsageError (with the usage below it) without any traceback."""
    assert isinstance(ran.error, UsageError)
    first, *usage = str(ran.error).splitlines()
    assert len(usage) <= 1
    assert all(line.startswith("usage: %") for line in usage)
    assert "Traceback" not in ran.out + ran.err
    for word in words:
        assert word in first


def short_error(ran: Ran, kind: type[BaseException], *words: str) -> None:
    """Check that a call failed and that IPython shows one line for it."""
    assert type(ran.error) is kind
    shown = (ran.out + ran.err).strip().splitlines()
    assert len(shown) == 1
    assert shown[0].startswith(f"{kind.__name__}: ")
    for word in words:
        assert word in shown[0]


# Deploying


def test_a_cell_becomes_a_job(run: Run) -> None:
    deployed = run(ECHO).value()
    assert repr(deployed) == "created echo (TaskAPI)"
    assert "created echo" in deployed._repr_html_()
    assert run("job = %taskapi submit echo lr=0.1 name=net layers=[64, 32] on=true").error is None
    job = run("job").value()
    assert isinstance(job, Job)
    assert job.config == {"lr": 0.1, "name": "net", "layers": [64, 32], "on": True}
    assert run("%taskapi result job").value() == job.config
    assert run("%taskapi logs job").out == f"hello {job.config}\n"
    assert repr(run(ECHO).value()) == "echo (TaskAPI) is up to date"


def test_a_cell_is_deployed_and_submitted_in_one(run: Run) -> None:
    ran = run("%%taskapi submit twice x=21 --wait\ndef twice(config):\n    return config['x'] * 2")
    assert ran.value().status == "succeeded"
    assert run("%taskapi result last").value() == 42


def test_what_a_job_needs(run: Run) -> None:
    options = "--cpu 500m --mem 1Gi --timeout 60 --run-timeout 1m --env-var A=1 --env-var B='two words' --config {\"lr\": 0.5}"
    cell = "def task(config):\n    import os\n    return [config, os.environ['A'], os.environ['B']]"
    run(f"%%taskapi deploy needs {options}\n{cell}").value()
    spec = run("%taskapi status needs").value().spec
    assert (spec["timeout"], spec["run_timeout"]) == (60, 60)
    assert spec["compute"]["cpu"] == "500m"
    assert spec["definition"]["config"] == {"lr": 0.5}
    job = run("%taskapi submit needs x=1 --wait").value()
    assert (job.record.timeout, job.record.run_timeout) == (60, 60)
    assert job.result() == [{"lr": 0.5, "x": 1}, "1", "two words"]


def test_names_of_the_notebook_are_warned_of(run: Run) -> None:
    run("df = 3")
    cell = "import math\ndef task(config):\n    return math.pi, df, open, model"
    deployed = run(f"%%taskapi deploy names\n{cell}").value()
    assert re.search(r"df, model are neither defined nor imported in this cell; .* process of its own", repr(deployed))
    assert "Warning:" in deployed._repr_html_()
    ran = run("%%taskapi submit names\n" + cell)
    assert "df, model" in ran.displayed
    assert ran.value().wait().status == "worker_error"


def test_requirements_that_are_not_met_are_warned_of(run: Run) -> None:
    Path("requirements.txt").write_text("no-such-package-at-all>=3\nmsgspec\n")
    deployed = repr(run(ECHO).value())
    assert "requirements.txt is not met" in deployed
    assert "no-such-package-at-all" in deployed
    assert "msgspec" not in deployed


def test_a_configuration_file(run: Run) -> None:
    folder = Path("sub")
    folder.mkdir()
    (folder / "task.py").write_text("def task(config):\n    return 'from file'\n")
    (folder / "cortex.yaml").write_text("- name: filed\n  kind: TaskAPI\n  definition:\n    path: task.py\n")
    assert repr(run("%taskapi deploy sub/cortex.yaml").value()) == "created filed (TaskAPI)"
    assert run("%taskapi submit filed --wait").value().result() == "from file"


def test_a_callable_of_the_notebook(run: Run) -> None:
    run("factor = 3\ndef scale(config):\n    return config['x'] * factor")
    run("class Task:\n    def __call__(self, config):\n        return 'class'")
    run("%taskapi deploy scaled --function scale").value()
    run("%taskapi deploy classy --function Task").value()
    assert run("%taskapi submit scaled x=2 --wait").value().result() == 6
    assert run("%taskapi submit classy --wait").value().result() == "class"
    usage_error(run("%taskapi deploy x --function factor"), "'factor' is not a function or class")
    usage_error(run("%taskapi deploy x --function nothing"), "'nothing' is not a function or class")


def test_deploys_that_fail(run: Run) -> None:
    usage_error(run("%taskapi deploy nowhere.yaml"), "there is no file 'nowhere.yaml'")
    run("def train(config): pass\nclass Net: pass\nlr = 1")
    deploys = "to deploy the function train of this notebook: %taskapi deploy train --function train"
    usage_error(run("%taskapi deploy train"), f"there is no file 'train'; {deploys}")
    usage_error(run("%taskapi deploy Net"), "to deploy the class Net of this notebook")
    assert str(run("%taskapi deploy lr").error).startswith("there is no file 'lr'\nusage")
    short_error(run("%taskapi submit train"), APINotDeployed, f"train is not deployed; {deploys}")
    short_error(
        run("%taskapi submit trian"), APINotDeployed, f"trian is not deployed; did you mean train? T{deploys[1:]}"
    )
    short_error(
        run("%%taskapi deploy small --mem 4\ndef run(config): pass"), BadRequest, "4 is a number of bytes; 4Gi?"
    )
    usage_error(run("%taskapi deploy"), "deploy needs")
    usage_error(run("%%taskapi deploy\nx = 1"), "deploy needs NAME")
    usage_error(run("%%taskapi deploy a b\nx = 1"), "unexpected 'b'")
    short_error(run("%%taskapi deploy 9x\ndef task(config): pass"), BadRequest, "9x")
    for cell in ("def task(config:", "x = 1", "%matplotlib inline\ndef task(config): pass"):
        assert isinstance(run(f"%%taskapi deploy broken\n{cell}").error, BadRequest)
    assert run("%taskapi status").value().apis == []


# Submitting


def test_values_of_variables(run: Run) -> None:
    run(ECHO)
    run("lr, cfg, name = 0.25, {'a': [1, None], 'b': {'c': 'x'}}, 'echo'")
    job = run(
        "%taskapi submit $name lr=$lr other=${name} --config $cfg text='$lr' --timeout 9 --run-timeout 1h30m"
    ).value()
    assert job.config == {"a": [1, None], "b": {"c": "x"}, "lr": 0.25, "other": "echo", "text": "$lr"}
    assert (job.record.timeout, job.record.run_timeout) == (9, 5400)
    usage_error(run("%taskapi submit echo lr=$missing"), "there is no variable missing")
    usage_error(run("%taskapi submit echo --config $lr"), "--config must be a JSON object or a dict, not 0.25")
    usage_error(run("%taskapi submit echo --config {bad"), "--config must be a JSON object or a dict, not '{bad'")
    run("import datetime, math, pathlib; nan = math.nan; keys = {1: 2}")
    run("now, data = datetime.datetime(2024, 5, 6, 7, 8), pathlib.Path('/data')")
    job = run("%taskapi submit echo when=$now where=[$data] file={data}/x.csv").value()
    assert job.config == {"when": "2024-05-06T07:08:00", "where": ["/data"], "file": "/data/x.csv"}
    usage_error(run("%taskapi submit echo x=$nan"), "x ($nan) is nan")
    usage_error(run("%taskapi submit echo x=$keys"), "the key 1 in x ($keys) is not text")


def test_python_values_and_variables_inside_words(run: Run) -> None:
    run(ECHO)
    job = run(
        "%taskapi submit echo on=False n=None lr=.5 big=1_000 d={'a':(1, 'b')} l=[true, null]  # a comment"
    ).value()
    assert job.config == {"on": False, "n": None, "lr": 0.5, "big": 1000, "d": {"a": [1, "b"]}, "l": [True, None]}
    run("for i in range(2):\n    %taskapi submit echo i={i} out=out-{i}.csv name=run-$i tag=f'no {i}' all=[$i, {i}]")
    jobs = run("%taskapi status --limit 2").value()
    assert [job.config for job in jobs] == [
        {"i": i, "out": f"out-{i}.csv", "name": f"run-{i}", "tag": f"no {i}", "all": [i, i]} for i in (1, 0)
    ]
    noted = run("%taskapi submit echo name='run {i}'")
    assert noted.value().config == {"name": "run {i}"}
    assert noted.err == "taskapi: {i} stays as written: quoted text is taken as it is (f'...' is not)\n"
    usage_error(run("%taskapi submit echo name=run-{j}"), "there is no variable j")


def test_local_variables_of_a_function_count(run: Run) -> None:
    run(ECHO)
    run("def sweep(rates):\n    for rate in rates:\n        %taskapi submit echo rate=$rate\n")
    run("sweep([1, 2])").value()
    assert {job.config["rate"] for job in run("%taskapi status --limit 5").value()} == {1, 2}


def test_scalars_of_numpy_are_plain_and_arrays_are_refused(run: Run) -> None:
    pytest.importorskip("numpy")
    run(ECHO)
    run("import numpy as np; x, n, flag, a = np.float32(0.5), np.int64(3), np.bool_(True), np.arange(3)")
    job = run("%taskapi submit echo x=$x n=$n flag=$flag").value()
    assert job.config == {"x": 0.5, "n": 3, "flag": True}
    run(
        "stamp = np.datetime64('2024-05-06T07:08:09.000000001'); long = np.longdouble(0.5); none = np.datetime64('NaT')"
    )
    assert run("%taskapi submit echo x=$long when=$stamp").value().config["when"] == "2024-05-06T07:08:09.000000001"
    usage_error(run("%taskapi submit echo x=$none"), "x ($none) is a datetime64")
    usage_error(run("%taskapi submit echo a=$a"), "a ($a) is a ndarray", ".tolist()")


def test_nothing_is_evaluated_or_expanded(run: Run, tmp_path: Path) -> None:
    run(ECHO)
    run("secret = 'leaked'")
    mark = tmp_path / "mark"
    line = f"a={{secret.x}} b=$(touch {mark}) c=`touch {mark}` d=__import__('os') f=$secret.upper() g=;rm"
    ran = run(f"%taskapi submit echo {line}")
    usage_error(ran, "unexpected")  # what is after the space of $(touch …) stands alone
    job = run("%taskapi submit echo a={secret()} b='$(touch x)' d=__import__('os') f=$secret.upper()").value()
    assert job.config == {
        "a": "{secret()}",
        "b": "$(touch x)",
        "d": "__import__(os)",
        "f": "leaked.upper()",
    }
    assert not mark.exists()
    usage_error(run("%taskapi submit echo e=$HOME/x"), "there is no variable HOME")


def test_submissions_that_fail(run: Run) -> None:
    short_error(run("%taskapi submit nothing"), APINotDeployed, "nothing is not deployed")
    run(ECHO)
    usage_error(run("%taskapi submit"), "submit needs API")
    usage_error(run("%taskapi submit echo lr = 3"), "key=value without spaces")
    usage_error(run("%taskapi submit echo lr"), "unexpected 'lr'", "key=value")
    usage_error(
        run("%taskapi submit echo --timeout soon"),
        "--timeout must be a time such as 90 (seconds), 90s, 15m or 1h30m, not 'soon'",
    )
    usage_error(run("%taskapi submit echo --wiat"), "no option '--wiat'; did you mean --wait?")
    usage_error(run("%taskapi submit echo a=1 a=2"), "a is given twice")
    usage_error(run("%taskapi submit echo a='x"), "not closed")
    usage_error(run("%taskapi submit echo --timeout 0"), "--timeout must be from 1 to 1000000000 seconds, not 0")
    usage_error(run("%taskapi submit echo nan=NaN"), "nan is nan, which JSON can't carry")
    short_error(run("%taskapi submit ecoh"), APINotDeployed, "ecoh is not deployed; did you mean echo?")
    usage_error(run("%taskapi submit echo --run-timeout soon"), "--run-timeout must be a time such as 90")
    assert run("%taskapi status").value() == []


def test_failures_stop_run_all(run: Run) -> None:
    run("%%taskapi deploy failing\ndef task(config):\n    raise ValueError('no <i>luck</i>')")
    short_error(run("%taskapi submit failing --wait"), JobFailed, "worker error, ValueError: no <i>luck</i>")
    short_error(run("%taskapi wait last"), JobFailed, "%taskapi logs")
    short_error(run("%taskapi result last"), JobFailed)
    short_error(run("%taskapi rerun last --wait"), JobFailed)
    ran = run("try:\n    %taskapi wait last\nexcept Exception as error:\n    caught = error\ncaught")
    assert isinstance(ran.value(), JobFailed)


# Looking


def test_status_shows_what_is_asked_for(run: Run) -> None:
    empty = run("%taskapi status").value()
    assert repr(empty) == "no task APIs are deployed\n\nno jobs"
    run(ECHO)
    run("%%taskapi deploy failing\ndef task(config): 1 / 0")
    for api in ("echo", "echo", "failing"):
        run(f"%taskapi submit {api}").value().wait()
    overview = run("%taskapi status").value()
    assert isinstance(overview, JobList)
    assert [api.name for api in overview.apis or []] == ["echo", "failing"]
    assert [job.api_name for job in overview] == ["failing", "echo", "echo"]
    assert "ZeroDivisionError" in repr(overview)
    assert run("%taskapi get").value() == overview
    api = run("%taskapi status echo").value()
    assert isinstance(api, API)
    assert len(api.task_job_statuses) == 2
    assert run("%taskapi status --limit 1").value() == overview[:1]
    assert run("%taskapi status --status succeeded").value() == overview[1:]
    assert run("%taskapi status --status 'worker error,stopped'").value() == overview[:1]
    assert run("%taskapi status echo --status worker_error").value() == []
    assert run("%taskapi status --search 'ECHO succeeded'").value() == overview[1:]
    assert run("%taskapi status echo --search 'no such'").value() == []
    job = run("%taskapi status last").value()
    assert job == overview[0]
    assert run(f"%taskapi get echo {overview[1].id}").value() == overview[1]
    short_error(run(f"%taskapi get failing {overview[1].id}"), JobNotFound, overview[1].id)
    usage_error(run("%taskapi status nothing"), "'nothing' is neither a deployed API nor a job")
    usage_error(run("%taskapi status --status broken"), "'broken' is not one of pending, running")


def test_watching_ends_with_the_jobs(run: Run, go_on: Path) -> None:
    run(WAITING)
    job = run("%taskapi submit waiting path=$go_on").value()
    timer = threading.Timer(0.2, go_on.touch)
    timer.start()
    ran = run("%taskapi status waiting --watch")
    timer.join()
    assert ran.error is None
    assert job.refresh().status == "succeeded"


def test_ways_to_name_a_job(run: Run, shell: InteractiveShell) -> None:
    run(ECHO)
    run("first = %taskapi submit echo n=1")
    run("second = %taskapi submit echo n=2")
    first, second = run("first").value(), run("second").value()
    for word in ("first", "$first", first.id, first.id[-6:], f"echo {first.id}", f"echo {first.id[-6:]}", "echo first"):
        assert run(f"%taskapi wait {word}").value() == first
    for word in ("last", "second", "echo last"):
        assert run(f"%taskapi wait {word}").value() == second
    run("both = %taskapi wait first last")
    assert run("both").value() == [first, second]
    assert run("%taskapi wait both first").value() == [first, second]
    usage_error(run("%taskapi wait nothing"), "no job 'nothing'")
    usage_error(run("%taskapi wait"), "which job?")
    usage_error(run("%taskapi logs first second"), "give one job, not 2")
    usage_error(run("%taskapi wait ffff"), "no job's id ends in ffff")
    usage_error(run("%taskapi wait $shown"), "no variable shown")
    shell.user_ns["number"] = 3
    usage_error(run("%taskapi wait $number"), "a value of type int is not a job")
    short_error(run("%taskapi wait 0000000000000000"), JobNotFound)
    short_error(run("%taskapi wait other first"), JobNotFound)
    usage_error(run("%taskapi wait other last"), "no job has been submitted yet to other")


def test_an_ambiguous_suffix_is_not_guessed(run: Run, home: Path) -> None:
    run(ECHO)
    first = run("%taskapi submit echo --wait").value()
    # No two ids end alike by chance within a test: have the store say that one more does.
    twin = "0" * 12 + first.id[-4:]
    with closing(sqlite3.connect(home / "taskapi.db")) as connection, connection:
        names = [row[1] for row in connection.execute("PRAGMA table_info(jobs)") if row[1] not in ("id", "seq")]
        connection.execute(
            f"INSERT INTO jobs (id, {', '.join(names)}) SELECT ?, {', '.join(names)} FROM jobs WHERE id = ?",
            (twin, first.id),
        )
    usage_error(run(f"%taskapi wait {first.id[-4:]}"), "may be any of", first.id, twin)


def test_last_is_not_another_notebooks(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ECHO)
    monkeypatch.setenv("JPY_SESSION_NAME", "mine.ipynb")
    mine = run("%taskapi submit echo").value()
    assert mine.notebook == "mine.ipynb"
    theirs = mine.api.submit("echo", notebook="theirs.ipynb")
    assert run("%taskapi wait last").value() == mine
    plain = mine.api.submit("echo")
    assert run("%taskapi wait last").value() == plain
    theirs.wait()
    for job in (mine, plain):
        job.forget()
    assert run("%taskapi status last").value() == theirs


def test_vscode_tells_the_notebook_by_a_variable(run: Run, shell: InteractiveShell) -> None:
    run(ECHO)
    shell.user_ns["__vsc_ipynb_file__"] = "/home/me/n.ipynb"
    assert run("%taskapi submit echo").value().wait().notebook == "/home/me/n.ipynb"


def test_logs(run: Run) -> None:
    run("%%taskapi deploy lines\ndef task(config):\n    for n in range(config['n']): print('line', n)")
    run("%taskapi submit lines n=50 --wait").value()
    assert run("%taskapi logs last -n 2").out == "line 48\nline 49\n"
    assert run("%taskapi logs last -n2").out == "line 48\nline 49\n"
    assert run("%taskapi logs lines last --tail=1 -f").out == "line 49\n"
    assert run("%taskapi logs last").out.count("\n") == 50
    assert run("%taskapi logs last -f").out.count("\n") == 50
    run("%taskapi submit lines n=200000 --wait").value()
    out = run("%taskapi logs last").out
    assert len(out) < (1 << 20) + 200
    assert re.match(r"\(the last 1 MiB of \d\.\d MiB; job\.logs\(\) returns all\)\nline \d+\n", out)
    assert out.endswith("line 199999\n")
    run("%taskapi submit lines n=0 --wait").value()
    assert "has written nothing" in run("%taskapi logs last").out


BAR = """%%taskapi deploy bar
import sys
def run(config):
    print("start")
    for n in range(config["states"]):
        sys.stdout.write(f"\\rstep {n:06d} of {config['states']} " + "#" * 60)
    if config["end"]:
        print()
"""


def test_the_log_of_a_bar_is_its_last_state(run: Run) -> None:
    run(BAR)
    run("%taskapi submit bar states=1000 end=true --wait").value()
    last = f"step 000999 of 1000 {'#' * 60}\n"
    assert run("%taskapi logs last").out == f"start\n{last}"
    assert run("%taskapi logs last -n 1").out == last
    assert run("%taskapi logs last -n 5").out == f"start\n{last}"
    follows = run("%taskapi logs last -f").out
    assert len(follows) < 10_000
    assert rewritten(follows) == f"start\n{last}"
    run("%taskapi submit bar states=50000 end=false --wait").value()
    last = f"step 049999 of 50000 {'#' * 60}"
    note = "(the last 1 MiB of 3.9 MiB; job.logs() returns all)\n"
    assert run("%taskapi logs last").out == run("%taskapi logs last -n 3").out == f"{note}{last}"
    follows = run("%taskapi logs last -f").out
    assert len(follows) < 10_000
    assert re.fullmatch(r"\[\.\.\. 2\.9 MiB of output are left out here.*\]\n" + last, rewritten(follows))


def test_following_a_log_until_its_end(run: Run, go_on: Path) -> None:
    run(WAITING)
    job = run("%taskapi submit waiting path=$go_on").value()
    thread = threading.Thread(target=lambda: (until(lambda: job.api.log_chunk(job).size, "a line"), go_on.touch()))
    thread.start()
    assert run("%taskapi logs last -f").out == "waiting\n"
    thread.join()
    assert job.refresh().ended


# Ending


def test_stopping(run: Run, go_on: Path) -> None:
    run(WAITING)
    jobs = [run("%taskapi submit waiting path=$go_on").value() for _ in range(4)]
    assert run(f"%taskapi stop {jobs[0].id}").out == f"stopped job {jobs[0].id}\n"
    assert run(f"%taskapi delete waiting {jobs[1].id}").out == f"stopped job {jobs[1].id}\n"
    short_error(run(f"%taskapi stop {jobs[0].id}"), JobNotInProgress, "not in progress")
    out = run("%taskapi stop --all").out
    assert sorted(out.splitlines()) == sorted(f"stopped job {job.id}" for job in jobs[2:])
    assert {job.refresh().status for job in jobs} == {"stopped"}
    assert run("%taskapi stop waiting --all").out == "no jobs are in progress\n"
    usage_error(run("%taskapi stop"), "which job?")
    usage_error(run("%taskapi stop a b --all"), "--all takes at most one API")


def test_stopping_several_says_what_failed_at_the_end(run: Run, go_on: Path) -> None:
    run(WAITING)
    first = run("a = %taskapi submit waiting path=$go_on\na").value()
    run("%taskapi stop a")
    second = run("b = %taskapi submit waiting path=$go_on\nb").value()
    ran = run("%taskapi stop a b")
    assert isinstance(ran.error, JobNotInProgress)
    assert first.id in str(ran.error)
    assert f"stopped job {second.id}" in ran.out


def test_deleting_an_api(run: Run, go_on: Path) -> None:
    run(WAITING)
    job = run("%taskapi submit waiting path=$go_on").value()
    assert run("%taskapi delete waiting").out == "deleted waiting\n"
    assert job.refresh().status == "stopped"
    short_error(run("%taskapi delete waiting"), APINotDeployed, "waiting is not deployed")
    usage_error(run("%taskapi delete"), "which API?")
    assert run(f"%taskapi status waiting {job.id}").value() == job


def test_waiting(run: Run, go_on: Path) -> None:
    run(WAITING)
    job = run("job = %taskapi submit waiting path=$go_on\njob").value()
    short_error(run("%taskapi wait job --timeout 0"), TimeoutError, "is still")
    go_on.touch()
    assert run("%taskapi wait job").value() == job
    run("%%taskapi deploy failing\ndef task(config): 1 / 0")
    one, two = (run("%taskapi submit failing").value() for _ in range(2))
    short_error(run(f"%taskapi wait job {one.id} {two.id}"), JobFailed, "2 of 3 jobs did not succeed", one.id, two.id)
    short_error(run(f"%taskapi wait job {one.id}"), JobFailed, f"job {one.id} of failing: worker error")


def test_rerunning(run: Run) -> None:
    run(ECHO)
    first = run("%taskapi submit echo x=1 --wait").value()
    again = run("%taskapi rerun last --wait").value()
    assert again != first
    assert again.result() == {"x": 1}


def test_rerunning_the_same_version(run: Run) -> None:
    run(ECHO)
    run("first = %taskapi submit echo x=1 --wait")
    run("%%taskapi deploy echo\ndef task(config): return 'another'")
    assert run("%taskapi rerun first --wait").value().result() == "another"
    again = run("%taskapi rerun first --same --wait").value()
    assert again.result() == {"x": 1}
    assert "--same" in run("%taskapi help rerun").out
    usage_error(run("%taskapi rerun first --smae"), "did you mean --same?")
    run("%taskapi delete echo")
    short_error(run("%taskapi rerun first --same"), APINotDeployed, "echo is not deployed")


def test_a_list_of_jobs_is_taken_as_jobs(run: Run, shell: InteractiveShell) -> None:
    run(ECHO)
    jobs = [run(f"%taskapi submit echo n={n}").value() for n in range(3)]
    shell.user_ns |= {"several": jobs, "few": tuple(jobs[:2]), "none": [], "mixed": [jobs[0], 1]}
    assert run("%taskapi wait several").value() == jobs
    assert run("%taskapi wait few").value() == jobs[:2]
    usage_error(run("%taskapi wait none"), "no job 'none'")
    usage_error(run("%taskapi wait $mixed"), "a value of type list is not a job")


# The rest


def test_environments(run: Run) -> None:
    there = run("%taskapi env").value()
    assert repr(there).splitlines()[1].split() == ["*", "local", "local"]
    assert "local" in there._repr_html_()
    assert there.facts == {
        "home": os.environ["TASKAPI_HOME"],
        "server": "none; this kernel uses the home directly",
        "supervisor": "none running",
        "this kernel": f"taskapi_jupyter {__version__}",
    }
    assert "supervisor: none running" in repr(there)
    assert "supervisor: none running" in there._repr_html_()
    assert run("%taskapi env local").error is None
    usage_error(run("%taskapi env prod"), "there is no environment 'prod'")
    run(ECHO).value()


def test_help(run: Run) -> None:
    everything = run("%taskapi help").out
    assert run("%taskapi").out == everything
    for verb in VERBS.values():
        assert verb.usage[0] in everything
        its = run(f"%taskapi help {verb.name}").out
        assert all(option.name in its for option in verb.taken(cell=True))
    assert run("%taskapi help get").out == run("%taskapi help status").out
    usage_error(run("%taskapi help nothing"), "there is no verb 'nothing'")
    usage_error(run("%taskapi submti x"), "did you mean submit?")
    usage_error(run("%%taskapi logs x\ntext"), "logs takes no cell")
    assert run("%taskapi?").error is None


def test_hostile_words_stay_on_one_line(run: Run) -> None:
    for word in ("<script>", "\x1b[31mred", "\u202eevil", "x" * 3000):
        ran = run(f"%taskapi {word} x")
        usage_error(ran, "there is no verb")
        assert "\x1b" not in str(ran.error)
        assert len(str(ran.error)) < 600


def test_the_connection_follows_the_environment(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(ECHO)
    assert [api.name for api in run("%taskapi status").value().apis or []] == ["echo"]
    monkeypatch.setenv("TASKAPI_HOME", str(tmp_path / "other-home"))
    assert run("%taskapi status").value().apis == []


def test_unloading_takes_everything_back(run: Run, shell: InteractiveShell) -> None:
    shell.run_line_magic("unload_ext", "taskapi_jupyter")
    assert shell.find_line_magic("taskapi") is None
    assert shell.find_cell_magic("taskapi") is None
    assert completions(shell, "%taskapi sub") == []
    shell.run_line_magic("load_ext", "taskapi_jupyter")
    assert completions(shell, "%taskapi sub") == ["submit"]
    shell.run_line_magic("reload_ext", "taskapi_jupyter")
    assert completions(shell, "%taskapi sub") == ["submit"]


# Completion


def completions(shell: InteractiveShell, line: str) -> list[str]:
    """Return what Tab offers at the end of a line."""
    return list(shell.Completer.complete(line_buffer=line, cursor_pos=len(line))[1])


def test_tab_completes(run: Run, shell: InteractiveShell) -> None:
    run(ECHO)
    job = run("job = %taskapi submit echo --wait\njob").value()
    run("lr = 3")
    Path("cortex.yaml").touch()
    for line, expected in {
        "%taskapi ": [*VERBS, *ALIASES],
        "%taskapi su": ["submit"],
        "%%taskapi dep": ["deploy"],
        "taskapi su": ["submit"],
        "job = %taskapi su": ["submit"],
        "%taskapi submit ": ["echo"],
        "j = %taskapi submit e": ["echo"],
        "%taskapi submit echo --": [option.name for option in VERBS["submit"].options],
        "%taskapi submit echo lr=$l": ["lr"],
        "%taskapi submit echo lr={l": ["lr"],
        "%taskapi submit echo name=run-{l": ["lr"],
        "%taskapi status --status wor": ["worker_error", "worker_oom"],
        "%taskapi status --status=tim": ["timed_out"],
        "%taskapi wait la": ["last"],
        "%taskapi wait jo": ["job"],
        f"%taskapi logs {job.id[:4]}": [job.id],
        f"%taskapi logs {job.id[-6:-2]}": [job.id[-6:]],
        "%taskapi deploy c": ["cortex.yaml"],
        "%taskapi env ": ["local"],
        "%taskapi help wa": ["wait"],
    }.items():
        assert sorted(completions(shell, line)) == sorted(expected), line
    run("def fn(config): pass")
    assert completions(shell, "%taskapi deploy x --function f") == ["fn"]
    assert "--gpu" in completions(shell, "%%taskapi submit x --g")
    assert "--gpu" not in completions(shell, "%taskapi submit x --g")


PARAMETERS = """%%taskapi deploy train
from typing import Literal, Optional

def train(data, lr: Optional[float] = 0.1, fast: bool = False, kind: Literal["a b", "none", "c"] = "c", **rest):
    return [data, lr, fast, kind]
"""


def test_tab_completes_parameters(run: Run, shell: InteractiveShell) -> None:
    run(PARAMETERS)
    for line, expected in {
        "%taskapi submit train l": ["lr="],
        "%taskapi submit train ": ["data=", "lr=", "fast=", "kind="],
        "%taskapi submit --timeout 5 train lr=1 k": ["kind="],
        "%taskapi submit train lr=1 data=2 ": ["fast=", "kind="],
        "%%taskapi submit train da": ["data="],
        "%taskapi submit train fast=": ["True", "False"],
        "%taskapi submit train lr=": ["None"],
        "%taskapi submit train kind=": ["'a b'", "'none'", "c"],
        "%taskapi submit tr": ["train"],
    }.items():
        # A Tab gives up early on a busy machine; a person presses it again.
        until(lambda line=line, expected=expected: sorted(completions(shell, line)) == sorted(expected), line)


def test_a_task_of_parameters(run: Run) -> None:
    run(PARAMETERS)
    job = run("job = %taskapi submit train data=1 --wait\njob").value()
    assert job.result() == [1, 0.1, False, "c"]
    for line, words in (
        ("%taskapi submit train data=1 x=1", None),  # **rest
        ("%taskapi submit train", "train: data is missing: it takes data (required), lr, fast, kind, **rest"),
        ("%%taskapi submit other lrr=1\ndef other(lr): ...", "other: there is no parameter 'lrr' and lr is missing"),
        ("%%taskapi deploy two\ndef one(a): ...\ndef three(a): ...", "one(a) in line 2, three(a) in line 3"),
    ):
        ran = run(line)
        assert (words is None) == (ran.error is None), line
        assert words is None or words in str(ran.error)
    shown = str(run("%taskapi status train").value())
    assert "data, lr: Optional[float] = 0.1, fast: bool = False" in shown


def test_tab_never_raises(shell: InteractiveShell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKAPI_URL", "http://127.0.0.1:1/")
    for line in ("%taskapi submit ", "%taskapi logs ", "%taskapi env ", "%taskapi status --status= ", "%taskapi '"):
        completions(shell, line)


# Through a server, and in a kernel


def test_the_same_through_a_server(
    run: Run, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("TASKAPI_URL", live_server.url)
    monkeypatch.setenv("TASKAPI_TOKEN", live_server.token)
    run(ECHO.replace("deploy echo", f"deploy {name}")).value()
    job = run(f"%taskapi submit {name} x='<b>' --wait").value()
    assert job.endpoint.startswith(live_server.url)
    assert run("%taskapi result last").value() == {"x": "<b>"}
    assert run("%taskapi logs last -f").out == "hello {'x': '<b>'}\n"
    assert "&lt;b&gt;" in job._repr_html_()
    monkeypatch.setenv("TASKAPI_TOKEN", "wrong")
    short_error(run("%taskapi status"), Forbidden)
    monkeypatch.setenv("TASKAPI_TOKEN", live_server.token)
    assert run(f"%taskapi delete {name}").out == f"deleted {name}\n"


def execute(*cells: str) -> list[Any]:
    """Execute cells in a kernel; return their outputs, errors among them."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    nbclient.NotebookClient(notebook, timeout=60, kernel_name="python3", allow_errors=True).execute()
    return [cell.outputs for cell in notebook.cells]


def test_a_notebook(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    progress = "import time\nfrom taskapi_jupyter.job import progress\n"
    outputs = execute(
        "%load_ext taskapi_jupyter",
        f"%%taskapi submit steps\n{progress}def task(config):\n    progress(1, 2, '<i>')\n    progress(2, 2)",
        "job = %taskapi wait last",
        "%%taskapi deploy failing\ndef task(config): 1 / 0",
        "%taskapi submit failing --wait",
        "%taskapi submit nothing",
        "%taskapi nothing",
        "(await job).status",
    )
    (result,) = outputs[1]
    assert result.output_type == "execute_result"
    assert "steps" in result.data["text/html"]
    (bar,) = outputs[2]  # one picture that was redrawn, the last one being of the end
    assert bar.output_type == "display_data"
    assert bar.data["text/plain"].startswith("succeeded  steps")
    assert "<progress" not in bar.data["text/html"]
    assert [output.output_type for output in outputs[4]] == ["display_data", "error"]
    assert outputs[4][1].ename == "JobFailed"
    assert len(outputs[4][1].traceback) == 1
    assert outputs[5][0].traceback == ["APINotDeployed: nothing is not deployed"]
    assert outputs[6][0].text.startswith("UsageError: there is no verb 'nothing'")
    assert outputs[7][0].data["text/plain"] == "'succeeded'"


@pytest.mark.parametrize("waiting", ["%taskapi wait job", "job.wait()", "%taskapi logs job -f"])
def test_interrupting_a_kernel_leaves_the_job_running(
    waiting: str, home: Path, service: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    manager, client = start_new_kernel(kernel_name="python3")
    try:
        for cell in ("%load_ext taskapi_jupyter", WAITING, f"job = %taskapi submit waiting path={tmp_path / 'go-on'}"):
            assert client.execute_interactive(cell, timeout=60)["content"]["status"] == "ok"
        shown: list[Any] = []

        def interrupt(message: Any) -> None:
            first = not any(one["msg_type"] in ("display_data", "stream") for one in shown)
            shown.append(message)
            if first and message["msg_type"] in ("display_data", "stream"):
                manager.interrupt_kernel()

        reply = client.execute_interactive(waiting, timeout=60, output_hook=interrupt)["content"]
        assert (reply["status"], reply["ename"]) == ("error", "KeyboardInterrupt")
        if waiting.startswith("%"):
            assert reply["traceback"] == ["KeyboardInterrupt: interrupted"]
        (job,) = service.jobs()
        assert not job.ended
        if "wait" in waiting:
            hints = [message["content"]["text"] for message in shown if message["msg_type"] == "stream"]
            assert f"job {job.id} still runs" in "".join(hints)
        (tmp_path / "go-on").touch()
        assert job.wait(30).status == "succeeded"
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


# What nobody displays is said in a line


def test_what_a_statement_drops_is_said(run: Run, tmp_path: Path) -> None:
    run(ECHO)
    last = run("x = 1\n%taskapi submit echo")
    assert type(last.result) is Job  # which is displayed
    assert "submitted job" not in last.out
    kept = run("job = %taskapi submit echo\nlist_ = [get_ipython().run_line_magic('taskapi', 'submit echo')]\nx = 1")
    assert (kept.error, kept.out) == (None, "")
    dropped = run("%taskapi submit echo\nx = 1")
    assert re.fullmatch(r"submitted job [0-9a-f]{16} of echo\n", dropped.out)
    loop = run("for n in range(2):\n    %taskapi submit echo n={n}\n    n += 1")
    assert re.fullmatch(r"(submitted job [0-9a-f]{16} of echo\n){2}", loop.out)
    waited = run("if True:\n    %taskapi submit echo --wait\n    pass")
    assert re.search(r"job [0-9a-f]{16} of echo: succeeded\n", waited.out)
    again = run("%taskapi rerun last\nx = 1")
    assert again.out.startswith("submitted job ")
    (tmp_path / "a.py").write_text("def task(config):\n    return tqdm\n")
    (tmp_path / "a.yaml").write_text("name: from-file\ndefinition: {path: a.py}\n")
    deployed = run(f"%taskapi deploy {tmp_path}/a.yaml\nx = 1")
    assert deployed.out.splitlines()[0] == "created from-file (TaskAPI)"
    assert run("%taskapi status\nx = 1").out == ""  # it does nothing that has to be known


def test_a_program_that_submits_says_nothing(run: Run, shell: InteractiveShell) -> None:
    run(ECHO)
    module = ModuleType("tool")
    exec("def submit(shell):\n    shell.run_line_magic('taskapi', 'submit echo')\n", vars(module))
    shell.user_ns["tool"] = module
    assert (run("tool.submit(get_ipython())\nx = 1").error, run("tool.submit(get_ipython())\nx = 1").out) == (None, "")


def test_a_script_of_ipython(home: Path, tmp_path: Path) -> None:
    script = tmp_path / "script.ipy"
    script.write_text(f"%load_ext taskapi_jupyter\nget_ipython().run_cell_magic{cell_of(ECHO)!r}\n%taskapi submit echo")
    environ = {**os.environ, "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run(
        [sys.executable, "-m", "IPython", str(script)],
        env=environ,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert "Traceback" not in done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[0] == "created echo (TaskAPI)"
    assert re.fullmatch(r"submitted job [0-9a-f]{16} of echo", said[-1])


def cell_of(text: str) -> tuple[str, str, str]:
    """Return what a cell magic is called with."""
    first, _, rest = text.partition("\n")
    name, _, line = first.removeprefix("%%").partition(" ")
    return name, line, rest
