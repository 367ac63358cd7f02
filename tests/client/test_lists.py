"""Lists of jobs that are bounded in bytes, counts and searches: without a server, through one, and for Ray's jobs."""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest

from support import WAITING, request_for, until
from support.homes import configured
from support.records import FIRST, SCHEMAS, deploy, row
from support.servers import LiveServer, reserved_port
from taskapi_jupyter.client.job_lookup import Resolver
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import JobList, TaskAPI
from taskapi_jupyter.core.contract import Environment, Progress, encode
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.cortex.client import CortexClient
from taskapi_jupyter.display import apis_text
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.store import Store
from taskapi_jupyter.ui.panel.job_query import PAGE, JobQuery

MIB = 1 << 20


@pytest.fixture(params=["service", "client", "ray"])
def api(request: pytest.FixtureRequest, home: Path) -> Iterator[TaskAPI]:
    """Return a TaskAPI; the store behind it is that of :func:`store`."""
    if request.param == "client":
        server: LiveServer = request.getfixturevalue("live_server")
        found: TaskAPI = Client(server.taskapi, server.token)
    elif request.param == "ray":
        found = RayService(home, environment="ray", address=f"http://127.0.0.1:{reserved_port()}")
    else:
        found = Service(home)
    yield found
    found.close()


@pytest.fixture
def store(api: TaskAPI, request: pytest.FixtureRequest) -> Iterator[Store]:
    """Return the store of that TaskAPI: jobs that a test writes there have ended, and no process ran for them."""
    home = api.home or request.getfixturevalue("live_server").home
    with closing(Store(home / "taskapi.db")) as store:
        yield store


def add(store: Store, name: str, *configs: Any, status: JobCode = JobCode.SUCCEEDED, **columns: Any) -> list[str]:
    """Write jobs that have ended, with these configs; return their ids, oldest first. No supervisor sees them pend."""
    deploy(store, name, f"{name}-1")
    ids = []
    with store.write() as transaction:
        last = transaction.execute("SELECT id FROM jobs ORDER BY seq DESC LIMIT 1").fetchone()
        number = int(last[0], 16) if last else FIRST
        for config in configs:
            number -= 1
            ids.append(f"{number:016x}")
            text = None if config is None else json.dumps(config, ensure_ascii=False)
            known = row(name, f"{name}-1", id=ids[-1], status=status.value, change=1, ended=1, config=text, **columns)
            names = ", ".join(known)
            marks = ", ".join("?" * len(known))
            transaction.execute(f"INSERT INTO jobs ({names}) VALUES ({marks})", list(known.values()))
    return ids


def of_size(count: int) -> dict[str, str]:
    """Return a config of so many bytes on the wire."""
    return {"x": "y" * (count - len(encode({"x": ""})))}


def pages(of: TaskAPI, **query: Any) -> list[JobList]:
    found = [of.page(**query)]
    while found[-1].next_cursor:
        found.append(of.page(**query, cursor=found[-1].next_cursor))
    return found


def test_a_list_leaves_large_configs_out_and_the_job_has_them(api: TaskAPI, store: Store, name: str) -> None:
    configs = [None, {}, of_size(2048), of_size(2049), of_size(9000), of_size(1_000_000)]
    add(store, name, *configs)
    listed = api.jobs(name)[::-1]
    assert [bool(job.record.config_truncated) for job in listed] == [False] * 3 + [True] * 3
    on_wire = [json.loads(encode(job.record)) for job in listed]
    assert [one.get("config", "left out") for one in on_wire] == [*configs[:3], *["left out"] * 3]
    assert "over 2 KiB" in repr(api.jobs(name))
    assert "y" in api.jobs(name)[0]._repr_html_()
    assert [job.config for job in listed] == configs
    assert not listed[-1].record.config_truncated
    assert api.job_response(listed[-1].id).job_status.config == configs[-1]


def test_a_page_ends_before_a_mebibyte_and_the_next_goes_on(api: TaskAPI, store: Store, name: str) -> None:
    jobs = add(store, name, *[of_size(2000)] * 900, reason="why " * 100)[::-1]
    found = pages(api, api=name, limit=1000)
    assert [job.id for page in found for job in page] == jobs
    assert len(found) == 3
    for page in found:
        assert 0 < sum(len(encode(job.record)) + 1 for job in page) < MIB
    assert [job.id for job in api.jobs(name, limit=1000)] == jobs
    some = api.jobs(name, "succeeded", 850)
    assert [job.id for job in some] == jobs[:850]
    assert [job.id for job in api.jobs(name, cursor=some.next_cursor)] == jobs[850:]


def test_one_job_alone_may_have_more_than_a_page(api: TaskAPI, store: Store, name: str) -> None:
    jobs = add(store, name, *[None] * 3, reason="r" * (MIB + 1))[::-1]
    assert [[job.id for job in page] for page in pages(api, api=name)] == [[one] for one in jobs]


def test_the_server_answers_within_a_mebibyte(live_server: LiveServer, name: str) -> None:
    with closing(Store(live_server.home / "taskapi.db")) as store:
        add(store, name, *[of_size(2048)] * 600)
    answer = live_server.fetch("GET", f"jobs?api={name}&limit=1000&counts=true")
    page = answer.json()
    assert len(answer.content) <= MIB
    assert len(page["jobs"]) < 600
    assert page["counts"] == {"succeeded": 600}
    assert page["next_cursor"]
    assert "searched" not in page
    ids = ",".join(map(str, range(201)))
    for wrong in (
        "search=",
        f"search={'x' * 501}",
        "counts=1",
        "ids=",
        f"ids={ids}",
        "ids=a&status=running",
        "results=1",
    ):
        assert live_server.fetch("GET", f"jobs?{wrong}").status_code == 400


def test_jobs_are_counted_for_any_filter(api: TaskAPI, store: Store, name: str) -> None:
    before = api.counts()
    add(store, name, *[None] * 3)
    failed = add(store, name, *[None] * 2, status=JobCode.WORKER_ERROR)
    add(store, f"{name}-b", None)
    assert api.counts(name) == {"succeeded": 3, "worker_error": 2}
    assert api.counts(name, "worker_error") == {"worker_error": 2}
    assert api.counts(status=["succeeded", "stopped"]).get("succeeded") == before.get("succeeded", 0) + 4
    assert api.counts(f"{name}-none") == {}
    api.forget(failed[0])
    assert api.counts(name) == {"succeeded": 3, "worker_error": 1}
    with pytest.raises(BadRequest, match="status"):
        api.counts(name, "no such")


def test_a_search_finds_names_ids_notebooks_configs_and_messages(api: TaskAPI, store: Store, name: str) -> None:
    said = Progress(1, 2, "Epoche ÄÖÜ")
    one, two, three = (
        add(store, name, {"path": "/data/Größe.csv"}, notebook=f"{name}/Lernen.ipynb", schedule="Nightly-1")
        + add(store, name, {"lr": 0.1}, reason="exit code 3", status=JobCode.WORKER_ERROR)
        + add(store, name, of_size(100_000), progress=encode(said).decode())
    )
    for text, found in {
        name.upper(): [three, two, one],
        f"{name} lernen.IPYNB": [one],
        f"{name} grösse": [one],
        f"{name} nightly-1": [one],
        f"größe.CSV {name}": [one],
        two: [two],
        f'"lr": {name}': [two],
        f"{name} worker error": [two],
        f"{name} EXIT 3": [two],
        f"{name} epoche äöü": [three],
        f"{name} yyyyyy": [three],
        f"{name} done": [],  # a key of the progress, not its message
        f"{name} %": [],
    }.items():
        looked = pages(api, search=text)  # several, where the machine is busy or the home is full
        assert [job.id for page in looked for job in page] == found, text
        assert all(page.searched for page in looked)
    looked = pages(api, api=name, status=["succeeded", "stopped"], search=".")
    assert [job.id for page in looked for job in page] == [one]
    newest = api.jobs(name, search=name, limit=1)
    assert ([job.id for job in newest], newest.searched) == ([three], 1)
    assert [job.id for job in api.jobs(name, search=name, limit=2, cursor=newest.next_cursor)] == [two, one]
    assert api.jobs(name, search=" ").searched is None
    with pytest.raises(BadRequest, match="500"):
        api.jobs(search="x" * 501)
    assert Resolver(api, {}, None).one([two[-12:]]).id == two


def test_a_search_finds_settings_of_a_config(api: TaskAPI, store: Store, name: str) -> None:
    """A key with its value: at any depth, numbers as numbers, texts as they are, whatever their characters mean."""
    odd = {"Wert": 'a"b\\c', "like": "100%_x", "key=1:2": True, "größe": "Ä", "": 1, "sql": "'; DROP TABLE jobs; --"}
    one, two, three, four = add(
        store,
        name,
        {"optim": {"lr": 0.078, "betas": [0.9, 0.99]}, "seed": 1, "flag": True, "small": 1e-05, "note": None},
        {"lr": 0.0785, "seed": 10, "flag": 1, "model": "ResNet 50", "layers": [{"width": 64}, {"width": 2**60 + 1}]},
        {**odd, "lr": "0.078", "text": "lr=0.5"},
        {"lr.x": 0.078, "early": 3, "word": "Ö", "long": "x" * 100_000, "late": 3},
    )
    for text, found in {
        "lr=0.078": [three, one],
        "lr:0.078": [three, one],
        "LR=7.8e-2": [one],
        "optim.lr=0.078": [one],
        "tim.lr=0.078": [],
        "lr=0.07": [three],  # of a text, a part is enough
        'lr="0.07"': [],
        "lr=0.5": [three],  # these letters are in it
        "lr:0.5": [],
        "seed=1": [one],
        "seed=1.0": [one],
        "seed=1 flag=true": [one],
        "flag=1": [two],
        "small=0.00001": [one],
        "small:1e-05": [one],
        "note=None": [one],
        "note=null": [one],
        "betas=[0.9,0.99]": [one],
        "model=resnet": [two],
        'model="resnet 50"': [two],
        'model="resnet"': [],
        f"width={2**60 + 1}": [two],
        f"width={2**60}": [],
        "like=100%_x": [three],
        "like=1__%": [],
        "wert:b\\c": [three],
        "GRÖSSE=ä": [three],
        "key=1:2=true": [],  # the key ends at the first sign
        "early=3 word:ö": [four],
        "early=03": [],
        "late=3": [],  # behind what is searched of a config
        "sql=';": [three],
        "seed=": [],
        "=7": [],
        "seed==1": [],
        "seed=nan": [],
        "seed=[[[[[": [],
        "seed=\ud83d": [],
        "seed=%00": [],
    }.items():
        with suppress(UnicodeEncodeError):  # half a character is no text that can be sent
            looked = pages(api, api=name, search=text)
            assert [job.id for page in looked for job in page] == found, text


def test_jobs_by_their_ids_and_with_results(api: TaskAPI, store: Store, name: str) -> None:
    """Asked by id, jobs come with whole configs, as many as fit; small results show what is scalar in them."""
    small, large, nan, none = add(store, name, {"n": 1}, of_size(5000), {}, {})
    jobs = Path(store.path).parent / "jobs"
    values = {"loss": 0.5, "ok": True, "word": "w" * 300, "none": None, "list": [1], "half": "\ud800"}
    for job_id, result in {small: values, nan: {"bad": float("nan"), **{f"n{i:02}": i for i in range(40)}}}.items():
        (jobs / job_id).mkdir(parents=True, exist_ok=True)
        (jobs / job_id / "result.json").write_text(json.dumps(result))
    page = api.page(ids=[none, small, large, f"{FIRST:016x}", "'; --", small], results=True)
    assert [job.id for job in page] == [none, large, small]
    assert page.next_cursor is None
    assert page[1].config == of_size(5000)
    listed = api.page(name, results=True)
    if not isinstance(api, RayService):  # which keeps none without a storage
        assert page[2].record.results == {"loss": 0.5, "ok": True, "word": "w" * 256, "none": None}
        assert [len(job.record.results or {}) for job in listed] == [0, 19, 0, 4]
    assert listed[2].record.config_truncated
    assert not any(job.record.results for job in api.page(name))
    many = add(store, name, *[of_size(200_000)] * 8)
    assert 1 <= len(api.page(ids=many)) < 8


def test_a_search_says_how_far_it_looked(api: TaskAPI, store: Store, name: str) -> None:
    deploy(store, name, "v")
    (oldest,) = add(store, name, {"x": "needle"})
    values = "api_name, api_id, spec_id, status, change, created, boot, cpu, gpu"
    with store.write() as transaction:
        transaction.executemany(
            f"INSERT INTO jobs (id, {values}) VALUES (?, ?, 'v', 's', 'stopped', 1, 1, 'b', 1, 0)",
            ((f"{FIRST - 1_000_000 - n:016x}", name) for n in range(25_000)),
        )
    found = [api.page(name, search="NEEDLE", limit=10)]
    assert 0 < (found[0].searched or 0) <= 10_000
    assert (list(found[0]), bool(found[0].next_cursor)) == ([], True)
    assert "older" in repr(found[0])
    while found[-1].next_cursor:
        found.append(api.page(name, search="NEEDLE", limit=10, cursor=found[-1].next_cursor))
    assert sum(page.searched or 0 for page in found) == 25_001
    assert [job.id for page in found for job in page] == [oldest]
    query = JobQuery(name)
    query.text = "needle"
    for _ in range(40):
        page = query.read(api)
        if not page.more:
            break
        assert "searched" in page.note
        query.turn(1)
    assert [job.job_id for job in page.jobs] == [oldest]
    query = JobQuery(name)
    assert query.read(api).note == "of 25,001"
    assert len(query.read(api).jobs) == PAGE


@pytest.fixture
def one_core(live_server: LiveServer) -> Iterator[None]:
    """Have one job run at a time on the server that all tests use."""
    with configured(live_server.home, "cpus: 1\nstop_grace: 1\n"):
        yield


@pytest.mark.usefixtures("one_core")
def test_the_list_of_apis_counts_all_jobs_and_shows_few(live_server: LiveServer, name: str) -> None:
    """One job runs, others wait: what people see counts them all, also where that server is a cluster for others."""
    client = Client(live_server.taskapi, live_server.token)
    client.deploy_request(request_for(name, WAITING))
    jobs = [client.submit(name, {"path": str(live_server.home / "never"), **of_size(4000)}).id for _ in range(14)]
    until(lambda: client.counts(name).get("running") == 1, "the first job to run")
    (listed,) = [one for one in client.get() if one.name == name]
    assert [job.job_id for job in listed.task_job_statuses] == jobs[:3:-1]
    assert all(job.config_truncated for job in listed.task_job_statuses)
    assert listed.job_counts == {"running": 1, "pending": 13}
    assert "1 running, 13 pending" in apis_text([listed])
    one = client.get(name)
    assert [job.job_id for job in one.task_job_statuses] == jobs[::-1]
    assert len(one.task_job_statuses[0].config or {}) == 2  # whole, as Cortex has it
    about = Environment("there", "cortex", operator_endpoint=live_server.taskapi)
    cluster = CortexClient(live_server.taskapi, live_server.token, environment=about)
    assert [job.id for job in cluster.jobs(status=["pending", "running"])] == jobs[::-1]
    assert cluster.counts(name) == {"running": 1, "pending": 13}
    assert [job.id for job in cluster.jobs(search=jobs[5], status="pending")] == [jobs[5]]
    assert client.delete(name) == f"deleted {name}"
    assert client.counts(name) == {"stopped": 14}
    cluster.close()
    client.close()


def test_a_rerun_submits_a_config_that_lists_leave_out(service: Service, name: str) -> None:
    service.deploy_request(request_for(name, "def task(config): return len(config['x'])"))
    config = of_size(50_000)
    service.submit(name, config).wait(60)
    again = service.jobs(name)[0].rerun()
    assert again.config == config
    assert again.result(60) == len(config["x"])


def test_counts_are_kept_whoever_writes(tmp_path: Path) -> None:
    """A process of an older version, which had the database open when this one changed its schema, goes on."""
    path = tmp_path / "taskapi.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as older:
        older.executescript((SCHEMAS / "1003.sql").read_text())
        older.execute("PRAGMA journal_mode = WAL")
        move = "UPDATE jobs SET status = ?, change = change WHERE id = ? AND status = ?"
        added = (
            "INSERT INTO jobs (id, api_name, api_id, spec_id, status, change, created, boot, cpu, gpu, config) "
            "VALUES (?, ?, 'v2', 's', 'pending', 1, 1, 'b', 1, 0, ?)"
        )
        older.execute(added, ("0" * 16, "kept", None))
        with closing(Store(path)) as store:

            def counted() -> dict[str, dict[str, int]]:
                known = Counter(older.execute("SELECT api_name, status FROM jobs").fetchall())
                return {api: {s: n for (a, s), n in known.items() if a == api} for api, _ in known}

            assert store.counts_by_api() == counted()
            older.execute(added, ("1" * 16, "kept", json.dumps(of_size(20_000))))
            assert older.execute(move, ("running", "0" * 16, "pending")).rowcount == 1
            assert older.execute(move, ("running", "0" * 16, "pending")).rowcount == 0
            older.execute("UPDATE jobs SET api_name = 'other' WHERE id = ?", ("1" * 16,))
            assert store.counts_by_api() == counted()
            assert store.counts("other", []) == {"pending": 1}
            (large,) = store.jobs("other", [], 10)
            assert (large["config"], large["large"]) == (None, 1)
            with suppress(ZeroDivisionError), store.write() as transaction:
                transaction.execute("DELETE FROM jobs")
                raise ZeroDivisionError
            assert store.counts_by_api() == counted()
            older.execute("DELETE FROM jobs WHERE status = 'succeeded'")
            assert store.forget("1" * 16, force=True)
            assert store.counts_by_api() == counted()
            assert "other" not in store.counts_by_api()
            assert older.execute("PRAGMA integrity_check").fetchone()[0] == "ok"
