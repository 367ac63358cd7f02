"""Rows of the store as Structs of the wire."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from taskapi_jupyter.core import decoding, files
from taskapi_jupyter.core.contract import KIND, JobStatus, Metadata, Progress
from taskapi_jupyter.core.paths import JobPaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.api_spec.variables import hidden

from .store import readable
from .store.connection import Row
from .store.lists import Texts

_EPOCH = datetime(1970, 1, 1)
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # µs; the years 1 and 9999: a task may date a file so
_PROGRESS = 1 << 16  # bytes; a task that writes more did not use our function


def rfc3339(us: int) -> str:
    """Return a time (microseconds since the epoch) as the wire has it."""
    moment = _EPOCH + timedelta(microseconds=min(max(us, _FIRST), _LAST))
    return f"{moment.isoformat(timespec='microseconds')}Z"


def spec_of(version: Row) -> dict[str, Any]:
    """Return a version's specification, with its first and last deployment (seconds since the epoch)."""
    if wrong := fault_of_api(version):
        told = f"its row in the database can't be read: {wrong}; deploy it again, or delete it"
        return {"name": readable.text(version["name"]), "kind": KIND, "error": told}
    updated, found = int(version.get("last_updated") or version["updated"]), readable.mapping(version["spec"])
    return {
        **hidden(found),
        "initial_deployment_time": int(version.get("created") or updated) // 1_000_000,
        "last_updated": updated // 1_000_000,
    }


def fault_of_api(version: Row) -> str | None:
    """Return what is wrong with the row of a version, None where its tasks can be started."""
    wrong = readable.fault(version)
    for name in ("spec", "config", "launch"):
        if wrong is None and name in version:
            try:
                readable.mapping(version[name])
            except ValueError as error:
                wrong = f"its {name} {error}"
    return wrong


def metadata_of(version: Row) -> Metadata:
    """Return an API's entry in a list, as Cortex 0.42 does."""
    updated = version.get("last_updated") or version["updated"]
    return Metadata(
        name=readable.text(version["name"]),
        id=readable.text(version["api_id"]),
        last_updated=updated // 1_000_000 if isinstance(updated, int) else 0,
    )


def status_of(row: Row, jobs: Path) -> JobStatus:
    """Return a job as every reader sees it; a running task leaves its progress in its folder below ``jobs``.

    A job whose row can't be read and that is not in progress is ``unknown``, with what is wrong as its reason.
    """
    wrong, config = readable.fault(row), None
    try:
        config = readable.config(row["config"])
    except ValueError as error:
        wrong = wrong or f"its config {error}"
    if wrong:
        return _unreadable(row, wrong)
    code = JobCode(row["status"])
    workers: dict[str, Any] | UnsetType = UNSET
    if code.in_progress:
        workers = {"pending" if code is JobCode.PENDING else "ready": 1}
    is_large = bool(row.get("large"))
    return JobStatus(
        job_id=row["id"],
        api_name=row["api_name"],
        config=UNSET if is_large else config,
        config_truncated=is_large or UNSET,
        api_id=row["api_id"],
        timeout=row["timeout"],
        created_time=rfc3339(row["created"]),
        spec_id=row["spec_id"],
        status=row["status"],
        start_time=UNSET if row["started"] is None else rfc3339(row["started"]),
        end_time=UNSET if row["ended"] is None else rfc3339(row["ended"]),
        worker_counts=workers,
        notebook=_or_unset(row["notebook"]),
        reason=_or_unset(row["reason"]),
        exit_code=_or_unset(row["exit_code"]),
        progress=_progress(row, code, jobs),
        run_timeout=_or_unset(row["run_timeout"]),
    )


def _unreadable(row: Row, wrong: str) -> JobStatus:
    known = row["status"] if row["status"] in ("pending", "running") and not readable.fault({"id": row["id"]}) else None
    when = {name: rfc3339(row[name]) for name in ("created", "ended") if type(row[name]) is int}
    return JobStatus(
        job_id=readable.text(row["id"]),
        api_name=readable.text(row["api_name"]),
        config=None,
        status=known or JobCode.UNKNOWN.value,
        created_time=when.get("created", UNSET),
        end_time=UNSET if known else when.get("ended") or when.get("created") or rfc3339(0),  # nothing waits for it
        reason=f"its row in the database can't be read: {wrong}; delete it",
    )


def search_of(text: str, jobs: Path) -> Callable[[Texts], bool]:
    """Return whether every word of a text occurs somewhere in a job; a running one has its progress below ``jobs``."""
    words = sorted(set(text.casefold().split()), key=len, reverse=True)
    labels = {code.value: code.label.casefold() for code in JobCode}

    def fits(texts: Texts) -> bool:
        there = texts.text.decode("utf-8", "replace").casefold()
        missing = [word for word in words if word not in there]
        if not missing:
            return True
        status, job_id = there.split("\n", 2)[:2]
        said = labels.get(status, "")
        if texts.progress or status == JobCode.RUNNING.value:
            progress = _progress({"id": job_id, "progress": texts.progress}, JobCode.read(status), jobs)
            said += f"\n{progress.message or ''}".casefold() if progress else ""
        return all(word in said for word in missing)

    return fits


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


def _progress(row: Row, code: JobCode, jobs: Path) -> Progress | UnsetType:
    """Return the task's last progress: of a running job from its folder, of an ended one from its row."""
    text: str | bytes | None = row["progress"]
    if code is JobCode.RUNNING:
        try:
            text = files.read(JobPaths(jobs / row["id"]).progress, _PROGRESS)
        except OSError:
            return UNSET
    if not text:
        return UNSET
    try:
        return decoding.decode(text, Progress)
    except (msgspec.DecodeError, UnicodeDecodeError):  # a task may have written anything
        return UNSET
