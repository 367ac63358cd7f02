"""Jobs that are pickled, stored and copied, and where they find their environment again."""

from __future__ import annotations

import copy
import io
import multiprocessing
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from operator import methodcaller
from pathlib import Path
from typing import Any

import cloudpickle
import dill
import joblib
import pytest
from IPython.lib.pretty import pretty

from support import ECHO, request_for
from support.homes import clean
from support.kernels import ALL_AT_ONCE, Kernel, Plain, Served
from support.servers import LiveServer, reserved_port, start_server
from taskapi_jupyter import environments
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import Job, JobList
from taskapi_jupyter.core.errors import JobNotFound, NotFound, Unreachable
from taskapi_jupyter.service.service import Service


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Have no server above, and no connection left."""
    for variable in ("TASKAPI_URL", "TASKAPI_TOKEN", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    yield
    environments.CONNECTIONS.close()


@pytest.fixture
def job(service: Service) -> Job:
    service.deploy_request(request_for("echo", ECHO))
    return service.submit("echo", {"x": 1}).wait()


def through_joblib(job: Any) -> Any:
    joblib.dump(job, file := io.BytesIO())
    return joblib.load(io.BytesIO(file.getvalue()))


WAYS: dict[str, Callable[[Any], Any]] = {
    **{f"pickle {n}": lambda job, n=n: pickle.loads(pickle.dumps(job, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
    "cloudpickle": lambda job: pickle.loads(cloudpickle.dumps(job)),
    "dill": lambda job: dill.loads(dill.dumps(job)),
    "joblib": through_joblib,
}


@pytest.mark.parametrize("way", WAYS)
def test_a_job_is_found_again(job: Job, way: str) -> None:
    found = WAYS[way](job)
    assert repr(found) == f"<Job {job.id} of echo>"  # and nothing was asked for it
    assert (found.id, found.api_name, found.environment) == (job.id, "echo", "local")
    assert found == job
    assert hash(found) == hash(job)
    assert environments.CONNECTIONS._kept == {}
    assert (found.result(), found.status, found.config) == ({"x": 1}, "succeeded", {"x": 1})
    assert repr(found) == repr(job)
    assert WAYS[way](WAYS[way](job)).result() == {"x": 1}  # one that has not been used yet, too


def test_many_share_one_connection(job: Job) -> None:
    kept = {"first": job, "all": JobList([job, job], "cursor"), "none": []}
    found = pickle.loads(pickle.dumps(kept))
    assert found == kept
    assert (type(found["all"]), found["all"].next_cursor) == (JobList, "cursor")
    assert "unknown" in repr(found["all"])  # as far as is known
    assert "succeeded" in pretty(found["all"])
    assert "succeeded" in pickle.loads(pickle.dumps(kept))["all"]._repr_html_()
    assert found["first"].api is found["all"][1].api


def test_a_job_that_is_shown_is_looked_at_first(job: Job) -> None:
    assert "succeeded" in pretty(pickle.loads(pickle.dumps(job)))
    assert "succeeded" in pickle.loads(pickle.dumps(job))._repr_html_()
    assert pickle.loads(pickle.dumps(job)).check().ended


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_copies_are_as_they_were(job: Job, copied: Any) -> None:
    same = copied(job)
    assert same is not job
    assert same == job
    assert same.api is job.api
    assert repr(same) == repr(job)
    stored = pickle.loads(pickle.dumps(job))
    assert repr(copied(stored)) == repr(stored)
    assert environments.CONNECTIONS._kept == {}
    assert copied([stored])[0].result() == {"x": 1}


def test_a_deep_copy_has_a_config_of_its_own(job: Job) -> None:
    deep = copy.deepcopy(job)
    deep.config["x"] = 2  # type: ignore[index]
    assert job.config == {"x": 1}


def test_a_pickle_names_no_module_that_may_be_moved(job: Job) -> None:
    text = pickle.dumps(job, 0).decode()
    assert "ctaskapi_jupyter\n_stored_job\n" in text
    assert "taskapi_jupyter." not in text


def test_a_pickle_holds_no_credentials(job: Job) -> None:
    client = Client("http://user.example:1234/taskapi/local", "a-secret-token", {"X-Secret": "another"})
    data = pickle.dumps(Job(client, job.record, "http://user.example:1234/?token=a-secret-token"))
    for secret in (b"secret", b"another", b"example", b"1234", b"token"):
        assert secret not in data


def test_a_job_whose_environment_is_gone_says_so_when_it_is_used(job: Job) -> None:
    gone = pickle.loads(pickle.dumps(Job(Client("http://x.example/", environment="prod"), job.record)))
    assert repr(gone) == f"<Job {job.id} of echo>"
    assert "unknown" in pretty(gone)
    assert "unknown" in gone._repr_html_()
    assert "unknown" in JobList([gone])._repr_html_()
    for use in (lambda: gone.status, gone.wait, gone.result, gone.stop, gone.logs, gone.rerun, lambda: gone.api):
        with pytest.raises(NotFound) as caught:
            use()
        assert str(caught.value) == (f"job {job.id} of echo: there is no environment 'prod'; there are: local")


def test_a_job_that_is_gone_says_so_when_it_is_used(job: Job) -> None:
    stored = pickle.dumps(job)
    job.forget()
    with pytest.raises(JobNotFound, match=job.id):
        pickle.loads(stored).result()


def test_a_server_that_is_away_is_no_trouble_until_it_is_needed(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(job)
    monkeypatch.setenv("TASKAPI_URL", f"http://127.0.0.1:{reserved_port()}/")
    # It knows the home that it was in, but goes through the server that is named.
    stored = pickle.loads(data)
    assert repr(stored) == f"<Job {job.id} of echo>"
    assert "unknown" in stored._repr_html_()
    with pytest.raises(Unreachable):
        stored.logs()
    monkeypatch.delenv("TASKAPI_URL")
    assert stored.result() == {"x": 1}  # it tries anew


def test_a_job_of_another_home_is_found_in_it(job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = pickle.dumps(job)
    monkeypatch.setenv("TASKAPI_HOME", str(tmp_path / "another"))
    assert pickle.loads(data).result() == {"x": 1}
    assert pickle.loads(pickle.dumps(pickle.loads(data))).result() == {"x": 1}


@pytest.mark.parametrize("method", ["spawn", "fork", "forkserver"])
def test_a_job_goes_to_another_process(job: Job, method: Any) -> None:
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert pool.map(methodcaller("result"), [job] * 4) == [{"x": 1}] * 4


READ = "import pickle, sys; print(pickle.load(sys.stdin.buffer).result())"


def test_another_interpreter_connects_by_itself(job: Job) -> None:
    done = subprocess.run([sys.executable, "-c", READ], input=pickle.dumps(job), capture_output=True, check=True)
    assert done.stdout == b"{'x': 1}\n"


# In kernels


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    folder = tmp_path_factory.mktemp("server")
    server = start_server(folder, environ={"IPYTHONDIR": str(folder / "ipython")})
    (server.home / "config.yaml").write_text(ALL_AT_ONCE)
    yield server
    server.process.kill()
    server.process.wait()
    clean(server.home)


@pytest.fixture
def start(server: LiveServer, request: pytest.FixtureRequest) -> Callable[[str], Kernel]:
    """Return what starts a kernel, of the server or beside it, for the same home and the same %store."""

    def start(kind: str) -> Kernel:
        folder = server.home.parent
        kernel: Kernel = Served(server, folder) if kind == "served" else Plain(folder, server.home)
        request.addfinalizer(kernel.close)
        return kernel

    return start


DEPLOY = "%%taskapi deploy answer\ndef run(config):\n    return config['n'] + 1"


@pytest.mark.parametrize("first", ["plain", "served"])
@pytest.mark.parametrize("then", ["plain", "served"])
def test_a_stored_job_outlives_its_kernel(start: Callable[[str], Kernel], first: str, then: str) -> None:
    kernel = start(first)
    kernel.show("%load_ext taskapi_jupyter")
    assert "answer" in kernel.show(DEPLOY).text
    kernel.show("job = %taskapi submit answer n=41")
    job_id = kernel.show("jobs = {'one': job}\nprint(job.id)").text.strip()
    assert kernel.show("%store job\n%store jobs").text == "Stored 'job' (Job)\nStored 'jobs' (dict)\n"
    kernel.show("import joblib; joblib.dump([job], 'jobs.joblib')")
    other = start(then)
    assert other.show("%store -r\nprint(repr(job))").text == f"<Job {job_id} of answer>\n"
    assert other.show("await job").error == ""
    assert other.show("print(job.result(), jobs['one'].status, job == jobs['one'])").text == "42 succeeded True\n"
    assert other.show("import joblib; print(joblib.load('jobs.joblib')[0].result())").text == "42\n"
    other.show("%load_ext taskapi_jupyter")
    assert "42" in other.show("%taskapi result job").text
    assert "succeeded" in other.show("%taskapi status job").text


HANDED = """def collect(config):
    return job.result() + config["n"]
"""


@pytest.mark.parametrize("kind", ["plain", "served"])
def test_a_job_goes_into_a_task(start: Callable[[str], Kernel], kind: str) -> None:
    kernel = start(kind)
    kernel.show("%load_ext taskapi_jupyter")
    kernel.show(DEPLOY)
    kernel.show("job = %taskapi submit answer n=41")
    kernel.show(HANDED)
    assert kernel.show("%taskapi deploy collect --function collect").error == ""
    assert kernel.show("%taskapi submit collect n=8 --wait").error == ""
    assert kernel.show("%taskapi result last").text == "50\n"
    assert (
        "42"
        in kernel.show(
            "import multiprocessing, operator\nwith multiprocessing.get_context('fork').Pool(1) as pool:\n    print(pool.map(operator.methodcaller('result'), [job]))"
        ).text
    )
