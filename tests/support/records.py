"""Jobs that are written into the database as a supervisor would: no process runs for them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from support import TESTS
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.service.service import Service
from taskapi_jupyter.service.store.store import Store
from taskapi_jupyter.service.supervisor import wake

FIRST = (1 << 63) - 1 - 1_700_000_000_000_000_000


SCHEMAS = TESTS / "support" / "schemas"


def deploy(store: Store, name: str = "a", api_id: str = "v1", launch: str = "{}") -> str:
    version = {"api_id": api_id, "name": name, "spec_id": "s", "timeout": None, "cpu": 1000, "mem": None, "gpu": 0}
    return store.put_api({**version, "updated": 1, "spec": "{}", "config": "{}", "launch": launch}, 1)[0]


def row(api: str = "a", api_id: str = "v1", **columns: Any) -> dict[str, Any]:
    plain = {"api_name": api, "api_id": api_id, "spec_id": "s", "created": 1, "timeout": None, "boot": "b"}
    return {**plain, "deadline": None, "cpu": 1000, "mem": None, "gpu": 0, **columns}


def end(store: Store, *ids: str, status: JobCode = JobCode.SUCCEEDED) -> None:
    for job_id in ids:
        moves: list[Any] = [
            (job_id, JobCode.PENDING, JobCode.RUNNING, {}),
            (job_id, JobCode.RUNNING, status, {"ended": 1}),
        ]
        assert store.move(moves) == [True, True]


def many_ended(store: Store, api: str, count: int) -> int:
    """Write jobs that succeeded, each with a config and a metric of its own; return the number of the first one's id."""
    deploy(store, api, f"{api}-1")
    with store.write() as transaction:
        last = transaction.execute("SELECT min(id) FROM jobs").fetchone()[0]
        first = min(FIRST, int(last, 16) if last else FIRST) - 1
        for at in range(count):
            values = row(
                api,
                f"{api}-1",
                id=f"{first - at:016x}",
                status="succeeded",
                change=1,
                started=1_000_000,
                ended=1_000_000 * (at + 2),
                config=json.dumps({"lr": at / 1000, "seed": at % 5}),
                metrics=json.dumps({"loss": 1 / (at + 1)}),
            )
            marks = ", ".join("?" * len(values))
            transaction.execute(f"INSERT INTO jobs ({', '.join(values)}) VALUES ({marks})", list(values.values()))
    return first


def tidy(home: Path, **environ: str) -> int:
    """Do what the supervisor has done now and then; return the exit code."""
    return subprocess.run(
        wake.command("service.retention", str(home)), env={**os.environ, **environ}, timeout=60
    ).returncode


def ended(service: Service, count: int, name: str = "a") -> list[str]:
    """Return the ids of jobs that ended, oldest first, with their folders; no process runs for them."""
    deploy(service.store, name, f"{name}1")
    jobs = [service.store.add_job(row(name, f"{name}1"), FIRST) for _ in range(count)]
    end(service.store, *jobs)
    for job in jobs:
        (service.home / "jobs" / job).mkdir()
        (service.home / "jobs" / job / "log").write_text("x")
    return jobs
