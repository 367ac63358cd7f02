"""Rows of the store as Structs of the wire."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from taskapi_jupyter.core import decoding, files
from taskapi_jupyter.core.contract import KIND, Cell, Interpreter, JobStatus, Metadata, Progress, Usage
from taskapi_jupyter.core.paths import JobPaths
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.api_spec.variables import hidden
from taskapi_jupyter.display.search import Search

from . import packages
from .store import readable
from .store.connection import Row
from .store.lists import Texts

_EPOCH = datetime(1970, 1, 1)
_FIRST, _LAST = -62_135_596_800_000_000, 253_402_300_799_999_999  # µs; the years 1 and 9999: a task may date a file so
_TOLD = 1 << 16  # bytes; a task that writes more did not use our functions
_NAMES, _LONGEST_NAME = 20, 64  # of metrics that a job shows, and characters of a name
_USAGE = 200  # bytes; more than the last line of what a job uses
_LONGEST_CELL_ID = 64  # characters; nbformat's limit
_CELL_STATES = ("running", "failed", "stopped", "timed out")

T = TypeVar("T")


class _InProgress(msgspec.Struct):
    """What the runner of a notebook adds to the progress."""

    cell: Cell


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


def interpreter_of(version: Row, home: Path) -> Interpreter | UnsetType:
    """Return the Python that runs a version's tasks, with when its environment was built, where it has one."""
    try:
        found = decoding.convert(readable.mapping(version["launch"])["interpreter"], Interpreter)
    except (LookupError, ValueError, msgspec.ValidationError):  # a command has none, nor what was deployed long ago
        return UNSET
    if found.key and (known := packages.facts(home, found.key)):
        found.built, found.seconds = rfc3339(int(known["built"] * 1_000_000)), float(known["seconds"])
    return found


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
    said = _said(row, code, jobs, "progress")
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
        progress=_told(said, Progress),
        cell=UNSET if code is JobCode.SUCCEEDED else _cell(said),
        metrics=_metrics(row, code, jobs),
        usage=_usage(row, code, jobs),
        run_timeout=_or_unset(row["run_timeout"]),
        group=_or_unset(row["group_id"]),
        index=_or_unset(row["group_index"]),
        attempt=row["attempt"] if row["retries"] or row["attempt"] > 1 else UNSET,
        retry_of=_or_unset(row["retry_of"]),
        retried_by=_or_unset(row["retried_by"]),
        **_after(row["after"]),
        schedule=_or_unset(row["schedule"]),
        scheduled_time=UNSET if row["scheduled"] is None else rfc3339(row["scheduled"]),
        notify=UNSET if row["notify"] is None else json.loads(row["notify"]),
    )


def _after(text: str | None) -> dict[str, Any]:
    """Return for which jobs one waits, or had to wait, those whose results it gets among them."""
    if not text:
        return {}
    said = json.loads(text)
    inputs = said.get("results") or {}
    after = list(dict.fromkeys([*said["ids"], *inputs.values()]))
    return {"after": after, "after_any": bool(said.get("any")) or UNSET, "inputs": inputs or UNSET}


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
    """Return whether a search finds a job; a running one has its progress below ``jobs``."""
    search = Search(text)
    labels = {code.value: code.label.casefold() for code in JobCode}

    def fits(texts: Texts) -> bool:
        whole = texts.text.decode("utf-8", "replace")

        def more() -> str:
            status, job_id = whole.split("\n", 2)[:2]
            said = labels.get(status, "")
            if texts.progress or status == JobCode.RUNNING.value:
                row = {"id": job_id, "progress": texts.progress}
                progress = _told(_said(row, JobCode.read(status), jobs, "progress"), Progress)
                said += f"\n{progress.message or ''}".casefold() if progress else ""
            return said

        return search.fits(whole.casefold(), lambda: whole.rpartition("\n")[2], more)

    return fits


def _or_unset(value: Any) -> Any:
    return UNSET if value is None else value


def _said(row: Row, code: JobCode, jobs: Path, name: str) -> str | bytes | None:
    """Return what a task last said of its progress or metrics: while it runs from its folder, afterwards its row."""
    if code is JobCode.RUNNING:
        try:
            return files.read(getattr(JobPaths(jobs / row["id"]), name), _TOLD)
        except OSError:
            return None
    text: str | None = row[name]
    return text


def _metrics(row: Row, code: JobCode, jobs: Path) -> dict[str, float] | UnsetType:
    """Return the last values of the task's metrics."""
    found = _told(_said(row, code, jobs, "metrics"), dict[str, float]) or {}
    return {name: found[name] for name in [*found][:_NAMES] if len(name) <= _LONGEST_NAME} or UNSET


def _usage(row: Row, code: JobCode, jobs: Path) -> Usage | UnsetType:
    """Return what a job uses, from the last line that its watcher has written, or has used, from its row."""
    found = _told(row["usage"], Usage)
    if code is JobCode.RUNNING:
        try:
            lines = files.read_end(JobPaths(jobs / row["id"]).usage, _USAGE).splitlines()
            _, cpu, memory, peak = decoding.decode(lines[-1], tuple[float, float, int, int])
        except (OSError, IndexError, msgspec.DecodeError, UnicodeDecodeError):
            return UNSET
        found = Usage(cpu, memory, peak)
    if found and row["mem"] is not None:
        found.memory_limit = row["mem"]
    return found


def _told(said: str | bytes | None, kind: type[T]) -> T | UnsetType:
    """Return what JSON holds; nothing where it is missing or of another kind."""
    try:
        return decoding.decode(said, kind) if said else UNSET
    except (msgspec.DecodeError, UnicodeDecodeError):  # a task may have written anything
        return UNSET


def _cell(said: str | bytes | None) -> Cell | UnsetType:
    if not said or ('"cell"' if isinstance(said, str) else b'"cell"') not in said:  # type: ignore[operator]
        return UNSET
    try:
        cell = decoding.decode(said, _InProgress).cell
    except (msgspec.DecodeError, UnicodeDecodeError):
        return UNSET
    return cell if cell.status in _CELL_STATES and len(cell.id) <= _LONGEST_CELL_ID else UNSET
