"""Schedules as user code holds them: of this machine's service, through a server, and in a kernel of either kind."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from support import ECHO, PATIENCE, request_for
from support.cortex_double import Operator
from support.kernels import Kernel
from support.markup import Elements
from support.servers import LiveServer
from taskapi_jupyter import connect
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.client.schedules.schedule import Schedule, ScheduleList
from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import ScheduleStatus
from taskapi_jupyter.core.errors import (
    APINotDeployed,
    BadRequest,
    Conflict,
    NotKept,
    ScheduleNotFound,
)

pytestmark = pytest.mark.local

CRON = "0 6 * * MON-FRI"


@pytest.fixture(params=["service", "client"])
def api(request: pytest.FixtureRequest) -> Iterator[TaskAPI]:
    """Return a TaskAPI without schedules: of this machine, or of a server over HTTP."""
    if request.param == "service":
        yield request.getfixturevalue("service")
        return
    server: LiveServer = request.getfixturevalue("live_server")
    client = Client(server.taskapi, server.token)
    yield client
    for one in client.schedules():
        one.delete()
    client.close()


def test_a_schedule(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, ECHO))
    made = api.schedule(name, CRON, config={"lr": 0.1}, tz="Europe/Berlin", name="nightly", max_late="1h", keep=3)
    assert isinstance(made, Schedule)
    assert (made.name, made.api_name, made.cron, made.tz) == ("nightly", name, CRON, "Europe/Berlin")
    assert (made.config, made.active, made.record.max_late, made.record.keep) == ({"lr": 0.1}, True, 3600, 3)
    assert made.explained == "At 06:00 on Monday through Friday (Europe/Berlin)"
    times = made.next(6)
    assert len(times) == 6 == len(set(times))
    assert {(when.hour, when.minute) for when in times} == {(6, 0)}
    assert all(when.weekday() < 5 and when.utcoffset() in (timedelta(hours=1), timedelta(hours=2)) for when in times)
    assert times[0].astimezone(timezone.utc) == datetime.fromisoformat(
        str(made.record.next_time).replace("Z", "+00:00")
    )
    assert made.last_job is None
    assert [made.jobs(), api.schedules()] == [[], [made]]

    job = made.run().wait(PATIENCE)
    assert (job.status, job.config, job.record.schedule) == ("succeeded", {"lr": 0.1}, "nightly")
    assert made.last_job is None  # as of the last read
    assert (made.refresh().last_job, made.jobs()) == (job, [job])
    assert api.jobs(schedule="nightly") == [job]

    assert made.pause() is made
    assert (made.active, made.state, made.pause().active) == (False, "paused", False)
    assert len(made.next(2)) == 2  # those that it would fire at
    assert made.run().wait(PATIENCE).status == "succeeded"
    made.resume()
    assert made.state.startswith("next in ")
    made.update(cron="@daily", tz="UTC", config={"lr": 0.2}, overlap="allow", max_late=timedelta(minutes=2))
    told = (made.cron, made.tz, made.config, made.record.overlap, made.record.max_late)
    assert told == ("@daily", "UTC", {"lr": 0.2}, "allow", 120)
    found = api.schedules()
    assert found["nightly"] == found[0] == made
    with pytest.raises(KeyError):
        found["nope"]
    job.forget()
    assert made.delete() == "deleted schedule nightly"
    for gone in (made.refresh, made.pause, made.run, made.delete):
        with pytest.raises(ScheduleNotFound):
            gone()


def test_times_that_count_from_the_beginning(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, ECHO))
    until = datetime.now(timezone.utc) + timedelta(minutes=48)
    made = api.schedule(name, "every 15m", until=until)
    due = datetime.fromisoformat(str(made.record.next_time).replace("Z", "+00:00"))
    assert made.next(5) == [due + timedelta(minutes=15 * n) for n in range(3)]
    assert made.next(1) == [due]
    once = api.schedule(name, f"at {date.today().year + 1}-12-24T18:00", name="once", tz="Europe/Berlin", until=None)
    assert [when.isoformat() for when in once.next(5)] == [f"{date.today().year + 1}-12-24T18:00:00+01:00"]
    day = api.schedule(name, "0 0 29 2 *", name="leap", tz="UTC", until=date(2030, 1, 1))
    assert [when.isoformat() for when in day.next(5)] == ["2028-02-29T00:00:00+00:00"]
    for count in (0, 101):
        with pytest.raises(BadRequest, match="from 1 to 100"):
            day.next(count)


def test_mistakes(api: TaskAPI, name: str) -> None:
    with pytest.raises(APINotDeployed):
        api.schedule("nope-nope", CRON)
    api.deploy_request(request_for(name, ECHO))
    made = api.schedule(name, CRON)
    for options, said in (
        ({"cron": "0 6 * *"}, "has 4 fields"),
        ({"overlap": "both"}, "overlap must be one of skip, queue, stop, allow, not 'both'"),
        ({"catch_up": True}, "catch_up must be one of last, none"),
        ({"max_late": "soon"}, "max_late must be a time such as 90"),
        ({"until": "x"}, "until 'x' is no time"),
        ({"config": {"f": print}}, "config"),
        ({"tz": "Berlin"}, "did you mean Europe/Berlin"),
        ({"retries": -1}, "retries must be"),
    ):
        with pytest.raises(BadRequest, match=said):
            api.schedule(name, **{"cron": CRON, "name": "other", **options})  # type: ignore[arg-type]
        with pytest.raises(BadRequest, match=said):
            made.update(**options)
    with pytest.raises(BadRequest, match="colour"):
        made.update(colour="red")
    with pytest.raises(BadRequest, match="are one key"):
        made.update(cron="@daily", schedule="@hourly")
    with pytest.raises(Conflict):
        api.schedule(name, CRON)
    assert api.schedule(name, "@daily", replace=True).cron == "@daily"
    assert api.schedules()[0].refresh().cron == "@daily"


def test_how_it_is_displayed(api: TaskAPI, name: str) -> None:
    api.deploy_request(request_for(name, ECHO))
    made = api.schedule(name, CRON, config={"k": "<script>x</script>"}, tz="Europe/Berlin")
    assert repr(made).startswith(f"<Schedule {name} of {name}: At 06:00 on Monday through Friday (Europe/Berlin), next")
    found = api.schedules()
    assert isinstance(found, ScheduleList)
    assert "after a reboot" in str(found.hint)
    assert str(found.hint) in repr(found)
    for html in (made._repr_html_(), found._repr_html_()):
        assert "<script>" not in html
        assert "At 06:00 on Monday through Friday (Europe/Berlin)" in html
        assert Elements(html).text


def test_hostile_text_is_escaped() -> None:
    bad = "<i>&\x1b[31m"
    record = ScheduleStatus(
        name=bad, api=bad, schedule=bad, timezone=bad, active=False, explained=bad, config={bad: bad}, notebook=bad,
        misfires=2, misfire=bad, paused=bad, last_job_id=bad, last_status=bad, until=bad, notify=[bad], api_id=bad,
        overlap=bad, catch_up=bad, created_time=bad, next_time=bad, last_time=bad, misfire_time=bad, retry_on=[bad],
    )  # fmt: skip
    one = Schedule(None, record)  # type: ignore[arg-type]
    for shown in (one._repr_html_(), ScheduleList([one], bad)._repr_html_()):
        assert "<i>&" not in shown.split("</style>")[-1]
    for text in (repr(one), repr(ScheduleList([one], bad))):
        assert "\x1b" not in text


def test_in_a_notebook(notebook: Kernel, name: str) -> None:
    notebook.run(f"%%taskapi deploy {name} --cpu 10m\ndef task(config):\n    return config")
    notebook.run("import taskapi_jupyter\ntasks = taskapi_jupyter.connect()")
    made = f"nightly = tasks.schedule({name!r}, {CRON!r}, config={{'lr': 0.1}}, tz='Europe/Berlin')"
    assert notebook.show(f"{made}\nnightly.run().result()").text == "{'lr': 0.1}\n"
    shown = notebook.show("tasks.schedules()")
    assert name in shown.text
    assert "At 06:00 on Monday through Friday" in shown.text
    assert "deleted schedule" in notebook.run("nightly.delete()")


def test_a_cluster_keeps_none(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("TASKAPI_URL", "JPY_PARENT_PID", "JUPYTERHUB_SERVICE_URL"):
        monkeypatch.delenv(variable, raising=False)
    with Operator() as operator:
        operator.deploy("hello")
        cluster = {"name": "prod", "provider": "cortex", "operator_endpoint": operator.url, "version": operator.version}
        (home / "environments.yaml").write_text(yaml.safe_dump({"environments": [cluster]}))
        api = connect("prod")
        for ask in (
            lambda: api.schedule("hello", CRON),
            api.schedules,
            lambda: api.jobs(schedule="x"),
            lambda: api.preview_schedule(CRON),
        ):
            with pytest.raises(NotKept, match="prod is a Cortex cluster, which keeps no schedules"):
                ask()
        api.close()
