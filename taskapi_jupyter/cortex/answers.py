"""Reads answers of clusters, in the shapes of 0.28 and of 0.42, into the wire model's Structs.

Functions take decoded JSON and raise what msgspec raises, KeyError, TypeError or AttributeError for another shape.
"""

from __future__ import annotations

from typing import Any

from msgspec import UNSET

from taskapi_jupyter.client.taskapi import API
from taskapi_jupyter.core import decoding
from taskapi_jupyter.core.contract import DeployedAPI, DeployResult, JobResponse, JobStatus
from taskapi_jupyter.core.states import JobCode


def status(raw: dict[str, Any]) -> JobStatus:
    """Read a job of either version; one that has no ``created_time`` has it in ``start_time``."""
    fields = dict(raw)
    if not fields.get("created_time"):
        fields["created_time"] = fields.pop("start_time", None) or UNSET
    fields = {name: value for name, value in fields.items() if value is not None and value is not UNSET}
    fields["status"] = JobCode.read(fields["status"]).value
    return decoding.convert(fields, JobStatus)


def response(raw: dict[str, Any]) -> JobResponse:
    """Read the answer about one job."""
    spec = raw.get("api_spec")
    return JobResponse(status(raw["job_status"]), raw.get("endpoint"), spec if isinstance(spec, dict) else {})


def api(raw: dict[str, Any]) -> API:
    """Read an API: 0.42 lists metadata alone, 0.28 specifications alone."""
    jobs = [status(one) for one in raw.get("task_job_statuses") or []]
    known = {
        name: raw[name] for name in ("spec", "endpoint", "api_versions", "job_counts") if raw.get(name) is not None
    }
    metadata = raw.get("metadata") or raw.get("spec") or {}
    about = {key: metadata[key] for key in ("name", "kind", "last_updated") if metadata.get(key) is not None}
    about["id"] = metadata.get("id") or metadata.get("api_id") or ""
    found = decoding.convert({**known, "metadata": about}, API)
    found.task_job_statuses = jobs
    return found


def deployed(raw: dict[str, Any]) -> DeployResult:
    """Read the result of a deploy for one API."""
    result = DeployResult(message=raw.get("message") or "", error=raw.get("error") or "")
    one = raw.get("api")
    if isinstance(one, dict):
        result.api = DeployedAPI(spec=one.get("spec") or one.get("metadata") or {}, endpoint=one.get("endpoint"))
    return result
