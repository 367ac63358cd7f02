"""What is sent of a job: JSON for webhooks, a title and lines of text for people."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from taskapi_jupyter.core import files, host, nesting
from taskapi_jupyter.core.paths import HomePaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.display.formats import clean, duration
from taskapi_jupyter.node.storage import RESULTS
from taskapi_jupyter.runner import log_file
from taskapi_jupyter.service.records import rfc3339
from taskapi_jupyter.service.store import readable
from taskapi_jupyter.service.store.outbox import STARTED

MOST = 20_000  # bytes of the JSON
_LOG, _RESULT, _CONFIG, _TEXT = 4096, 8192, 4096, 2000  # bytes of a log's end, of a result, a config and other texts

Content = dict[str, Any]


def of_job(
    home: str, delivery: Mapping[str, Any], job: Mapping[str, Any], include: Sequence[str], url: str | None
) -> Content:
    """Return what is sent of a job; ``url`` is the job's at a Jupyter server."""
    started = delivery["event"] == STARTED
    job = {} if readable.fault(job) else job

    def text(name: str) -> str | None:
        return None if job.get(name) is None else str(job[name])[:_TEXT]

    def moment(name: str) -> str | None:
        return None if job.get(name) is None else rfc3339(job[name])

    data: dict[str, Any] = {
        "job_id": delivery["job_id"],
        "api_name": text("api_name"),
        "status": JobCode.RUNNING.value if started else delivery["event"],
        "reason": None if started else text("reason"),
        "exit_code": None if started else job.get("exit_code"),
        "created_time": moment("created"),
        "start_time": moment("started"),
        "end_time": None if started else moment("ended"),
        "notebook": text("notebook"),
        "group": text("group_id"),
        "schedule": text("schedule"),
        "url": url,
    }
    if "config" in include:
        data |= _part("config", (text_of(job.get("config"))), _CONFIG)
    if "result" in include and not started:
        data |= _part("result", _result(home, delivery["job_id"]), _RESULT)
    if "log_tail" in include:
        tail, _, _, size = log_file.read(HomePaths(home).job(delivery["job_id"]).folder, -_LOG, _LOG)
        data["log_tail"] = tail[-_LOG:].decode("utf-8", "replace")
        data |= {"log_tail_cut": True} if size > _LOG else {}
    return {"type": f"taskapi.job.{delivery['event']}", "timestamp": rfc3339(delivery["at"]), "data": data}


def of_test(name: str) -> Content:
    """Return what a test sends."""
    data = {"name": name, "message": "this is a test"}
    return {"type": "taskapi.test", "timestamp": rfc3339(host.now_us()), "data": data}


def as_json(content: Content) -> bytes:
    """Return the body of a webhook; what is too long is cut, and beside it is said so."""
    while len(body := _dump(content)) > MOST:
        data = content["data"]
        longest = max(data, key=lambda name: len(_dump(data[name])))
        text = data[longest] if isinstance(data[longest], str) else _dump(data[longest]).decode()
        content = {**content, "data": {**data, longest: text[: len(text) // 2], f"{longest}_cut": True}}
    return body


def as_text(content: Content) -> tuple[str, str]:
    """Return a title and lines of text. What a task said is data: control characters in it are spelt out."""
    data = content["data"]
    if "job_id" not in data:
        return f"TaskAPI: a test of {clean(data['name'])}", "This is a test. Nothing has happened."
    name, status = clean(data["api_name"], 63), JobCode.read(data["status"]).label
    lines = [f"Job {clean(data['job_id'])} of {name}: {status}"]
    if data["start_time"] and data["end_time"]:
        lines[0] += f" after {_ran(data)}"
    for key in ("reason", "exit_code", "notebook", "group", "schedule", "url", "config", "result"):
        if (value := data.get(key)) is not None and not (key == "exit_code" and not value):
            shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            cut = " ... (cut)" if data.get(f"{key}_cut") else ""
            lines.append(f"{key.replace('_', ' ')}: {clean(shown)}{cut}")
    if data.get("log_tail"):
        cut = " (cut)" if data.get("log_tail_cut") else ""
        lines += [f"end of its log{cut}:", *(clean(line) for line in data["log_tail"].splitlines())]
    return f"{name}: {status}", "\n".join(lines)


def _ran(data: Mapping[str, Any]) -> str:
    from taskapi_jupyter.display.formats import moment

    begin, end = moment(data["start_time"]), moment(data["end_time"])
    return duration((end - begin).total_seconds()) if begin and end else ""


def text_of(value: Any) -> bytes | None:
    """Return a text of a row as bytes."""
    return value.encode("utf-8", "replace") if isinstance(value, str) else None


def _part(name: str, found: bytes | None, most: int) -> dict[str, Any]:
    """Return a JSON value under its name, or the beginning of its text where it is too long."""
    if found is None:
        return {}
    if len(found) <= most:
        try:
            value = nesting.loads(found.decode("utf-8", "replace"))
            json.dumps(value, allow_nan=False)
            return {name: value}
        except (ValueError, RecursionError):
            pass
    return {name: found[:most].decode("utf-8", "replace"), f"{name}_cut": True}


def _result(home: str, job_id: str) -> bytes | None:
    try:
        return files.read(Path(HomePaths(home).job(job_id).folder, RESULTS[0]), _RESULT + 1)
    except OSError:  # pickled, or kept elsewhere, or none
        return None


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")
