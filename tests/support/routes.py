"""The wire contract's answers, checked: exact keys, exact types."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from support import ECHO, PATIENCE, WAITING
from support.servers import Answer

Call = Callable[..., Awaitable[Answer]]


TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


ID = re.compile("[0-9a-f]{16}")


ABSENT = "7fffffffffffffff"


SUBMITTED = {
    "job_id": str,
    "api_name": str,
    "kind": str,
    "workers": int,
    "config": dict,
    "api_id": str,
    "timeout": int,
    "created_time": str,
    "spec_id": str,
}


def check(value: Any, types: dict[str, Any]) -> None:
    """Assert that an object has just these keys, with values of these types."""
    assert {key: type(one) for key, one in value.items()} == types


def is_error(answer: Answer, kind: str, message: str | None = None, status: int = 400) -> None:
    """Assert that an answer is an error of the contract."""
    assert answer.headers["Content-Type"] == "application/json"
    assert (answer.status, answer.json["kind"]) == (status, kind)
    check(answer.json, {"kind": str, "message": str})
    assert answer.json["message"]
    if message is not None:
        assert answer.json["message"] == message


async def deploy(call: Call, name: str = "hello", source: str = ECHO, **spec: Any) -> Any:
    """Deploy a source and return the answer's only element."""
    whole = {"name": name, "kind": "TaskAPI", "definition": {"path": "task.py"}, **spec}
    answer = await call("POST", "local/deploy", {"spec": whole, "source": source})
    assert answer.status == 200, answer.body
    (result,) = answer.json
    return result


async def status(call: Call, job_id: str, wanted: Callable[[Any], bool]) -> Any:
    """Wait until a job's status is as wanted and return it."""
    deadline = time.monotonic() + PATIENCE
    while True:
        job = (await call("GET", f"local/jobs/{job_id}")).json["job_status"]
        if wanted(job):
            return job
        assert time.monotonic() < deadline, f"waited in vain for job {job_id}: {job}"
        await asyncio.sleep(0.02)


async def ended(call: Call, job_id: str) -> Any:
    """Wait until a job has ended and return its status."""
    return await status(call, job_id, lambda job: "end_time" in job)


async def submit(call: Call, body: Any = None, name: str = "hello") -> str:
    """Submit a job and return its id."""
    answer = await call("POST", f"local/tasks/{name}", body or {})
    assert answer.status == 200, answer.body
    return str(answer.json["job_id"])


async def waiting(call: Call, tmp_path: Path) -> str:
    """Start a job that waits for the file ``go``, and return its id once it waits."""
    await deploy(call, "waiting", WAITING)
    job_id = await submit(call, {"config": {"path": str(tmp_path / "go")}}, "waiting")
    deadline = time.monotonic() + PATIENCE
    while (await call("GET", f"local/jobs/{job_id}/log")).body != b"waiting\n":
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)
    return job_id
