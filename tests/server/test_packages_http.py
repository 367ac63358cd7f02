"""Environments of packages: listed and deleted, by a server and without one; what retention removes of them."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec import UNSET

from support import PATIENCE, WAITING, request_for
from support.built import KEYS, deploy_in, held, make, there
from support.disks import immutable
from support.namespaces import run, unshared
from support.records import tidy
from support.routes import is_error
from support.servers import Answer, LiveServer, reserved_port
from taskapi_jupyter.client.packages import PackagesList
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.errors import BadRequest, Conflict, NotFound, Unavailable
from taskapi_jupyter.ray.service import RayService
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.ui import doctor

Call = Callable[..., Awaitable[Answer]]

NOTHING = "def task(config):\n    pass\n"
A, B, C, *_ = KEYS


@pytest.fixture(params=["plain", "served"])
def way(request: pytest.FixtureRequest) -> Iterator[tuple[TaskAPI, Service]]:
    """Return the TaskAPI of a home, without a server or through one, and the service of that home."""
    if request.param == "plain":
        service = api = request.getfixturevalue("service")
        yield api, service
        return
    server: LiveServer = request.getfixturevalue("live_server")
    client, service = Client(server.taskapi, server.token), Service(server.home)
    shutil.rmtree(server.home / "packages", ignore_errors=True)
    yield client, service
    client.close()
    service.close()


def by_key(api: TaskAPI) -> dict[str, Any]:
    return {one.key: one for one in api.packages()}


def test_what_is_listed(way: tuple[TaskAPI, Service], name: str) -> None:
    api, service = way
    assert api.packages() == []
    secret = ["private @ https://me:hush@index.example/p.whl?token=hush&x=1", "six"]
    make(service.home, A, days=2, requirements=secret, packages=secret)
    make(service.home, B, days=1)
    deploy_in(service, name, NOTHING, A)
    found = api.packages()
    assert isinstance(found, PackagesList)
    assert [one.key for one in found] == [B, A]  # used last first
    one = found.find("aaaa")
    assert (one.version, one.builder, one.size, one.seconds, one.jobs, one.apis) == (
        "3.11.7", "uv", 5 << 20, 1.5, 0, [name],
    )  # fmt: skip
    assert one.requirements == one.packages == ["private @ https://***@index.example/p.whl?token=***&x=1", "six"]
    assert "hush" not in repr(found) + found._repr_html_()
    assert found[0].apis == []
    assert not found[0].problem
    api.delete(name)


def test_one_that_a_job_in_progress_needs_stays(way: tuple[TaskAPI, Service], name: str, tmp_path: Path) -> None:
    api, service = way
    folder = make(service.home, A, days=40)
    deploy_in(service, name, WAITING, A)
    job = api.submit(name, {"path": str(tmp_path / "go")})
    assert by_key(api)[A].jobs == 1
    with pytest.raises(
        Conflict, match=rf"^environment aaaaaaaa can't be deleted while .* need it: {job.id} \({name}\);"
    ):
        api.delete_packages(A)
    assert api.purge_packages() == "deleted 0 environments"
    assert tidy(service.home) == 0
    assert folder.is_dir()
    (tmp_path / "go").touch()
    job.wait(PATIENCE)
    assert api.delete_packages("aaaa") == "deleted environment aaaaaaaa"
    assert not folder.exists()
    assert (api.packages(), api.get(name).name) == ([], name)  # the API stays deployed
    api.delete(name)


def test_one_that_a_process_uses_stays(way: tuple[TaskAPI, Service]) -> None:
    api, service = way
    folder = make(service.home, A, days=40)
    packages = service.home / "packages"
    with held(packages / f"{A}.used"):
        with pytest.raises(Conflict, match=r"can't be deleted while a process runs in it$"):
            api.delete_packages(A)
        assert api.purge_packages() == "deleted 0 environments"
        assert tidy(service.home) == 0
    (packages / f"{A}.lock").write_text("0123456789abcdef\n")
    with held(packages / f"{A}.lock", "alone"):
        with pytest.raises(Conflict, match=r"can't be deleted while job 0123456789abcdef builds it$"):
            api.delete_packages(A)
        assert tidy(service.home) == 0
    assert folder.is_dir()
    assert api.purge_packages() == "deleted 1 environment (5 MiB)"
    assert there(service.home) == set()


def test_keys(way: tuple[TaskAPI, Service]) -> None:
    api, service = way
    for key in ("abcd" + 28 * "1", "abcd" + 28 * "2"):
        make(service.home, key)
    with pytest.raises(BadRequest, match=r"^2 environments begin with abcd: abcd11111111, abcd22222222$"):
        api.delete_packages("abcd")
    for key in ("abc", "ABCD", "", ".", "..", "../abcd", "abcd" + 29 * "1", "abcd\n", "\x1b[31m", 10_000 * "g"):
        with pytest.raises(BadRequest, match=r"^no environment has the key '.*': give four or more of its digits"):
            api.delete_packages(key)
    with pytest.raises(NotFound, match=r"^no environment 0000: "):
        api.delete_packages("0000")
    assert api.delete_packages("abcd1") == "deleted environment abcd1111"
    assert [one.key for one in api.packages()] == ["abcd" + 28 * "2"]
    with pytest.raises(BadRequest, match="older_than must be a number of days"):
        api.purge_packages(-1)


def test_purge(way: tuple[TaskAPI, Service]) -> None:
    api, service = way
    for key, days in ((A, 1), (B, 5), (C, 10)):
        make(service.home, key, days=days)
    assert api.purge_packages(older_than=7) == "deleted 1 environment (5 MiB)"
    assert [one.key for one in api.packages()] == [A, B]
    assert api.purge_packages(older_than=7) == "deleted 0 environments"
    assert api.purge_packages() == "deleted 2 environments (10 MiB)"
    assert api.packages() == []


DAMAGED: dict[str, str] = {
    "empty": "",
    "no JSON": "{",
    "no object": "[]",
    "lacks all": "{}",
    "nested": "[" * 100_000,
    "no UTF-8": '{"python": "\\ud800"}',
    "NaN": json.dumps({"python": "", "version": "", "builder": "", "built": float("nan"), "seconds": 1}),
}


@pytest.mark.parametrize("what", [*DAMAGED, "missing", "a folder", "a link", "a FIFO", "size", "requirements", "built"])
def test_damaged_facts_are_said(service: Service, tmp_path: Path, what: str) -> None:
    changed = {"size": -1, "requirements": [1], "built": 1e300}
    folder = make(service.home, A, facts=DAMAGED.get(what), **({what: changed[what]} if what in changed else {}))
    facts = folder / "taskapi.json"
    if what in ("missing", "a folder", "a link", "a FIFO"):
        facts.rename(tmp_path / "elsewhere")
    if what == "a folder":
        facts.mkdir()
    elif what == "a link":
        facts.symlink_to(tmp_path / "elsewhere")
    elif what == "a FIFO":
        os.mkfifo(facts)
    (one,) = found = service.packages()
    assert str(one.problem).startswith("its taskapi.json ")
    assert str(one.problem).endswith("; the next job that needs it builds it again")
    assert one.size > 0  # of the files that are there
    assert "taskapi.json" in repr(found)
    assert tidy(service.home) == 0  # used today
    assert service.delete_packages(A) == "deleted environment aaaaaaaa"


def test_what_is_no_environment_is_left_alone(service: Service, tmp_path: Path) -> None:
    packages = service.home / "packages"
    packages.mkdir(mode=0o700)
    (packages / A).write_text("a file")
    (packages / B).symlink_to(tmp_path)
    (packages / "notes").mkdir()
    (packages / f"{C}.tmpfile").touch()
    before = there(service.home)
    assert service.packages() == []
    with pytest.raises(NotFound):
        service.delete_packages(B)
    assert tidy(service.home) == 0
    assert there(service.home) == before


def test_what_others_wrote_into_the_database_of_versions_is_no_obstacle(service: Service) -> None:
    make(service.home, A)
    for number, launch in enumerate(('{"packages"', '{"packages": 1}', '{"packages": {"key": [1]}}', '\x00"packages"')):
        deploy_in(service, f"a{number}", NOTHING, A)
        with service.store.write() as transaction:
            transaction.execute("UPDATE versions SET launch = ? WHERE name = ?", (launch, f"a{number}"))
    deploy_in(service, "good", NOTHING, A)
    assert service.packages()[0].apis == ["good"]


# Routes


async def test_the_routes(call: Call, home: Path) -> None:
    assert (await call("GET", "local/packages")).json == {"environments": []}
    make(home, A)
    (one,) = (await call("GET", "local/packages")).json["environments"]
    assert one == {
        "key": A,
        "version": "3.11.7",
        "builder": "uv",
        "seconds": 1.5,
        "size": 5 << 20,
        "jobs": 0,
        "apis": [],
        "requirements": ["six"],
        "packages": ["six==1.17.0"],
        **{name: one[name] for name in ("python", "built", "last_used")},
    }
    is_error(await call("DELETE", "local/packages/bbbb"), "error", status=404)
    is_error(await call("DELETE", "local/packages/xyz"), "error", status=400)
    is_error(await call("DELETE", "local/packages/..%2f..%2fjobs"), "error", status=400)
    with held(home / "packages" / f"{A}.used"):
        is_error(await call("DELETE", "local/packages/aaaa"), "error", status=409)
    assert (await call("GET", "local/packages", auth=False)).status == 403
    assert (await call("DELETE", f"local/packages/{A}", auth=False)).status == 403
    assert (await call("DELETE", f"local/packages/{A}/")).json == {"message": "deleted environment aaaaaaaa"}


async def test_a_cluster_builds_none(call: Call, home: Path) -> None:
    (home / "environments.yaml").write_text(
        "default_environment: local\nenvironments:\n- name: local\n  provider: local\n"
        "- name: prod\n  provider: cortex\n  operator_endpoint: http://127.0.0.1:9\n"
    )
    for method, path in (("GET", "packages"), ("DELETE", f"packages/{A}")):
        answer = await call(method, f"prod/{path}")
        is_error(answer, "environment.not_kept", status=404)
        assert answer.json["message"].startswith("prod is a Cortex cluster, which builds no environments")


def test_the_home_of_a_ray_cluster_has_its_own(home: Path) -> None:
    make(home, A)
    service = RayService(home / "ray" / "gpus", environment="gpus", address=f"http://127.0.0.1:{reserved_port()}")
    assert service.packages() == []
    assert service.purge_packages() == "deleted 0 environments"
    service.close()


# Retention


def settle(service: Service, text: str) -> None:
    """Have config.yaml say something, and pass it on."""
    (service.home / "config.yaml").write_text(f"stop_grace: 1\n{text}")
    service.deploy_request(request_for("other", NOTHING))


def test_those_unused_for_long_go(service: Service) -> None:
    settle(service, "packages: {keep_days: 7}\n")
    for key, days in ((A, 6.9), (B, 7.1), (C, 300)):
        make(service.home, key, days=days)
    assert tidy(service.home) == 0
    assert there(service.home) == {A}


def test_thirty_days_where_nothing_is_said(service: Service) -> None:
    for key, days in ((A, 29), (B, 31)):
        make(service.home, key, days=days)
    assert tidy(service.home) == 0
    assert there(service.home) == {A}


def test_the_least_recently_used_of_too_many_go(service: Service, tmp_path: Path) -> None:
    settle(service, "packages: {max_size: 11Mi}\n")
    for number, key in enumerate(KEYS[:5]):
        make(service.home, key, days=number)
    deploy_in(service, "waiting", WAITING, KEYS[4])  # the one not used for longest, but for this job
    job = service.submit("waiting", {"path": str(tmp_path / "go")})
    with held(service.home / "packages" / f"{KEYS[3]}.used"):
        assert tidy(service.home) == 0
    assert there(service.home) == {KEYS[3], KEYS[4]}
    (tmp_path / "go").touch()
    job.wait(PATIENCE)


@pytest.mark.parametrize("where", ["packages.renamed", "packages.removed"])
def test_killed_while_it_removes_one(service: Service, tmp_path: Path, where: str) -> None:
    for key in (A, B):
        folder = make(service.home, key, days=31)
        (folder / "lib").chmod(0o500)  # as packages of some builds have it
    make(service.home, C)
    (tmp_path / where).write_text("kill")
    assert tidy(service.home, TASKAPI_FAULTS=str(tmp_path)) == -signal.SIGKILL
    assert {A, B, C} & there(service.home) == {B, C}  # nothing of A is left under its name
    assert [one.problem for one in service.packages()] == [UNSET] * 2
    assert tidy(service.home) == 0
    assert there(service.home) == {C}


def test_what_a_killed_build_left_goes_and_one_in_progress_stays(service: Service) -> None:
    packages = service.home / "packages"
    for key in (A, B):
        (packages / f"{key}.tmp-0123456789abcdef" / "lib").mkdir(parents=True)
    (packages / f"{C}.old-1").mkdir()
    with held(packages / f"{B}.lock", "alone"):
        assert tidy(service.home) == 0
        assert there(service.home) == {f"{B}.tmp-0123456789abcdef"}
    assert tidy(service.home) == 0
    assert there(service.home) == set()


def test_old_locks_go(service: Service) -> None:
    packages = service.home / "packages"
    make(service.home, A, days=40)
    make(service.home, B, days=40)
    make(service.home, C, days=20)
    deploy_in(service, "needs", NOTHING, B)
    (packages / "locks").mkdir()
    for name, days in (("old", 31), ("new", 29)):
        path = packages / "locks" / f"{name}.txt"
        path.write_text("six==1.17.0\n")
        os.utime(path, (time.time() - days * 86_400,) * 2)
    service.delete_packages(C)
    assert tidy(service.home) == 0
    assert tidy(service.home) == 0  # those of environments that have gone just now
    left = {one.name for one in packages.iterdir()}
    assert left == {"locks", f"{B}.lock", f"{B}.used", f"{C}.lock", f"{C}.used"}
    assert [one.name for one in (packages / "locks").iterdir()] == ["new.txt"]


def test_what_cannot_be_removed_is_said(service: Service) -> None:
    folder = make(service.home, A, days=40)
    (folder / "stays").touch()
    with immutable(folder / "stays"):
        told = service.delete_packages(A)
        assert told.startswith("deleted environment aaaaaaaa; not all could be removed: ")
        assert "stays (Operation not permitted)" in told
        assert service.packages() == []
        assert tidy(service.home) == 0
        (problem,) = doctor.problems(service.home)
        assert problem.endswith("stays can't be removed: Operation not permitted; remove it by hand")
        next((service.home / "packages").glob(f"{A}.old-*")).rename(folder)  # where it can be made removable again
    assert service.delete_packages(A) == "deleted environment aaaaaaaa"
    assert (there(service.home), doctor.problems(service.home)) == (set(), [])


def test_one_whose_lock_is_none_delays_no_other(service: Service, tmp_path: Path) -> None:
    packages = service.home / "packages"
    for key in (A, B):
        make(service.home, key, days=40)
    (packages / f"{B}.used").unlink()
    (packages / f"{B}.used").symlink_to(tmp_path)
    make(service.home, C, days=50)
    os.utime(packages / f"{B}.used", (time.time() - 45 * 86_400,) * 2, follow_symlinks=False)
    with pytest.raises(Unavailable, match=rf"{B}\.used can't be changed: it is a link, not a file$"):
        service.delete_packages(B)
    assert tidy(service.home) == 0
    assert there(service.home) == {B}
    assert doctor.problems(service.home)[0].startswith(f"{packages / B} can't be removed: ")
    make(service.home, A)
    told = service.purge_packages()
    assert told.startswith("deleted 1 environment (5 MiB); ")
    assert told.endswith("it is a link, not a file")
    (packages / f"{B}.used").unlink()
    assert service.purge_packages() == "deleted 1 environment (5 MiB)"


FULL = """
from support.namespaces import run, unshared
from support.built import KEYS, make, there
folder = Path(sys.argv[1])
mount(folder, "size=4m", "nr_inodes=300", "mode=700")
home = folder / "home"
service = Service(home)
for key in KEYS[:3]:
    make(home, key, days=40)
for one in (home / "packages").glob("*.*"):
    one.unlink()
take_inodes(home / "taken")
fill(home / "taken" / "0")
assert service.delete_packages("aaaa") == "deleted environment aaaaaaaa"
take_inodes(home / "taken")
assert service.purge_packages().startswith("deleted 2 environments")
assert there(home) == set()
service.close()
"""


def test_a_full_disk_is_no_obstacle(tmp_path: Path) -> None:
    run(unshared("--mount"), FULL, tmp_path / "small")
