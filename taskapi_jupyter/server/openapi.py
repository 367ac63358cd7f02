"""The OpenAPI document: bodies from the wire model's Structs, routes from the table below."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any

import msgspec
from msgspec import UNSET

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import contract
from taskapi_jupyter.core.contract import (
    API,
    DeployRequest,
    DeployResult,
    EnvironmentsResponse,
    ErrorBody,
    FilesResponse,
    JobResponse,
    JobsPage,
    JobSpec,
    Message,
    Rerun,
    Submission,
    encode,
)
from taskapi_jupyter.core.states import TERMINAL, JobCode, values

from .base import INT64, MAX_CHUNK, MAX_DAYS, MAX_PAGE

JSON = "application/json"
TEXT = "text/plain"
BINARY = "application/octet-stream"


def query(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    """Describe a query parameter."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def header(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Describe an answer's header."""
    return {"schema": schema, "description": description}


def _states(among: Iterable[JobCode]) -> dict[str, Any]:
    schema = {"type": "array", "items": {"enum": values(among)}}
    return query("status", schema, "Only jobs in one of these states.")


JOB_ID = query("jobID", {"type": "string", "minLength": 1}, "The job.", required=True)
OF = query("api", {"type": "string", "minLength": 1}, "The job's API, which spares a cluster a look for it.")
ONLY = query("api", {"type": "string", "minLength": 1}, "Only jobs of this API.")
FLAG = {"type": "boolean", "default": False}
BYTES = {"type": "integer", "minimum": 0}
OFFSETS = {
    "X-Log-Offset": header(BYTES, "Where the piece begins, in bytes as written."),
    "X-Log-Next": header(BYTES, "The offset to go on with."),
    "X-Log-Size": header(BYTES, "How many bytes were written so far."),
}


@dataclass(frozen=True)
class Operation:
    """One method of one path; ``answer`` is a body's type, or media types of what has none."""

    method: str
    path: str
    summary: str
    answer: Any
    query: tuple[dict[str, Any], ...] = ()
    body: Any = None
    errors: tuple[int, ...] = ()
    headers: dict[str, Any] = field(default_factory=dict)
    status: int = 200


#: What every route may answer: who is not let in, a bad path, a home that can't be used; of a cluster, that it can't be
#: reached or is slow; that the extension could not start. HEAD is answered wherever GET is, and not listed.
CONTRACT = (400, 403, 404, 502, 503, 504, 507)
OWN = (400, 403, 404, 502, 503, 504, 507)
FORM = {
    "type": "object",
    "required": ["config"],
    "properties": {
        "config": {"type": "string", "description": "APIs as YAML, in either Cortex's shape."},
        "project.zip": {"type": "string", "format": "binary", "description": "The project folder (0.28)."},
    },
}
UPLOAD = {
    "type": "object",
    "required": ["request"],
    "properties": {
        "request": {"type": "string", "description": "The JSON body, without what the other parts bring."},
        "source": {"type": "string", "description": "`source` of that body."},
        "pickle": {"type": "string", "format": "binary", "description": "`pickle` of that body, not in base64."},
    },
    "additionalProperties": False,
}

OPERATIONS = (
    Operation("post", "/taskapi/{env}/tasks/{api}", "Submit a job", JobSpec, body=Submission, errors=(*CONTRACT, 415)),
    Operation("get", "/taskapi/{env}/tasks/{api}", "A job's status", JobResponse, (JOB_ID,), errors=CONTRACT),
    Operation("delete", "/taskapi/{env}/tasks/{api}", "Stop a job", Message, (JOB_ID,), errors=CONTRACT),
    Operation("get", "/taskapi/{env}/get", "All APIs", list[API], errors=CONTRACT),
    Operation("get", "/taskapi/{env}/get/{api}", "One API and its recent jobs", list[API], errors=CONTRACT),
    Operation("get", "/taskapi/{env}/get/{api}/{api_id}", "A version of an API", list[API], errors=CONTRACT),
    Operation(
        "post",
        "/taskapi/{env}/deploy",
        "Deploy: one API as JSON or an upload, or several by Cortex's form",
        list[DeployResult],
        (
            query("force", FLAG, "Cortex's; a deploy here never has anything to force."),
            query("configFileName", {"type": "string"}, "What to call the configuration in messages."),
        ),
        body={JSON: DeployRequest, "multipart/form-data": {"anyOf": [UPLOAD, FORM]}},
        errors=(*CONTRACT, 413, 415),  # 413 for an upload alone
    ),
    Operation(
        "delete",
        "/taskapi/{env}/delete/{api}",
        "Delete an API; its jobs in progress are stopped",
        Message,
        (query("keepCache", FLAG, "Cortex's; nothing here depends on it."),),
        errors=CONTRACT,
    ),
    Operation("get", "/taskapi/{env}/verifycortex", "Health", {JSON: {"type": "object"}}, errors=CONTRACT),
    Operation(
        "get",
        "/taskapi/{env}/streamlogs/{api}",
        "A job's log as it grows: a websocket of newline-terminated text frames, closed with 1000 at the end",
        None,
        (JOB_ID,),
        errors=(*CONTRACT, 426),
        status=101,
    ),
    Operation(
        "get",
        "/taskapi/{env}/jobs",
        "Jobs, newest first",
        JobsPage,
        (
            ONLY,
            _states(JobCode),
            query("limit", {"type": "integer", "minimum": 1, "maximum": MAX_PAGE, "default": 50}, "A page."),
            query("cursor", {"type": "string", "minLength": 1}, "The page before's `next_cursor`."),
        ),
        errors=OWN,
    ),
    Operation(
        "delete",
        "/taskapi/{env}/jobs",
        "Forget all ended jobs, or those that match",
        Message,
        (
            ONLY,
            _states(TERMINAL),
            query(
                "older_than",
                {"type": "number", "minimum": 0, "maximum": MAX_DAYS},
                "Only jobs that ended so many days ago, or before.",
            ),
        ),
        errors=OWN,
    ),
    Operation("get", "/taskapi/{env}/jobs/{job_id}", "A job's status", JobResponse, (OF,), errors=OWN),
    Operation("delete", "/taskapi/{env}/jobs/{job_id}", "Forget an ended job", Message, errors=(*OWN, 409)),
    Operation(
        "get",
        "/taskapi/{env}/jobs/{job_id}/log",
        "A piece of a job's log",
        {TEXT: {"type": "string"}},
        (
            query(
                "offset",
                {"type": "integer", "minimum": -INT64, "maximum": INT64, "default": 0},
                "In bytes as written; a negative one counts from the end.",
            ),
            query(
                "limit",
                {"type": "integer", "minimum": 1, "maximum": MAX_CHUNK, "default": 1 << 20},
                "Bytes at most.",
            ),
            OF,
        ),
        errors=OWN,
        headers=OFFSETS,
    ),
    Operation(
        "get",
        "/taskapi/{env}/jobs/{job_id}/result",
        "What the task returned: JSON, or a pickle to who accepts one",
        {JSON: {}, BINARY: {"type": "string", "format": "binary"}},
        headers={
            "X-Taskapi-Loader": header(
                {"type": "string"}, "What loads a pickle, and which Python wrote it: `cloudpickle; python=3.11`."
            )
        },
        errors=(*OWN, 406, 416),
    ),
    Operation("get", "/taskapi/{env}/jobs/{job_id}/files", "What a job left", FilesResponse, errors=OWN),
    Operation(
        "get",
        "/taskapi/{env}/jobs/{job_id}/files/{path}",
        "One of a job's files, or a range of it",
        {media: {"type": "string", "format": "binary"} for media in (BINARY, "*/*")},  # clients are made of the first
        errors=(*OWN, 416),
    ),
    Operation(
        "post",
        "/taskapi/{env}/jobs/{job_id}/rerun",
        "Submit a job's config and timeouts again",
        JobSpec,
        (OF,),
        body=Rerun,
        errors=(*OWN, 413, 415),
    ),
    Operation("get", "/taskapi/environments", "The environments", EnvironmentsResponse, errors=(400, 403, 503)),
    Operation("get", "/taskapi/openapi.json", "This document", {JSON: {"type": "object"}}, errors=(403, 503)),
)


def document(base_url: str) -> bytes:
    """Return the document for a server at ``base_url``, as JSON."""
    types = [t for op in OPERATIONS for t in (op.answer, op.body, *_values(op.body)) if _is_model(t)]
    schemas, components = msgspec.json.schema_components(
        [*types, ErrorBody], ref_template="#/components/schemas/{name}"
    )
    names = {id(t): schema for t, schema in zip([*types, ErrorBody], schemas, strict=True)}
    for schema in components.values():
        if "description" in schema:  # a docstring, whose lines Python before 3.13 indents
            schema["description"] = cleandoc(schema["description"])
        for one in schema.get("properties", {}).values():  # msgspec's versions differ in where null comes
            one.get("anyOf", []).sort(key=lambda choice: choice.get("type") == "null")
    for name, model in vars(contract).items():
        if name in components and model not in (Submission, DeployRequest, Rerun):  # what we answer has every key
            fields = msgspec.structs.fields(model)
            components[name]["required"] = [one.encode_name for one in fields if one.default is not UNSET]
    paths: dict[str, dict[str, Any]] = {}
    for op in OPERATIONS:
        paths.setdefault(op.path, {})[op.method] = _operation(op, names)
    return encode(
        {
            "openapi": "3.1.0",
            "info": {
                "title": "TaskAPI for Jupyter",
                "version": __version__,
                "description": "Cortex's TaskAPI contract, and what notebooks need beside it.",
            },
            "servers": [{"url": base_url.rstrip("/") or "/"}],
            "security": [{"token": []}],
            "paths": paths,
            "components": {
                "schemas": components,
                "securitySchemes": {
                    "token": {
                        "type": "http",
                        "scheme": "bearer",
                        "description": "The Jupyter server's token; `Authorization: token …` is taken too.",
                    }
                },
            },
        }
    )


def _values(body: Any) -> list[Any]:
    return list(body.values()) if isinstance(body, dict) else []


def _is_model(value: Any) -> bool:
    return value is not None and not isinstance(value, dict)


def _operation(op: Operation, names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return one operation as the document has it."""
    in_path = [part[1:-1] for part in op.path.split("/") if part.startswith("{")]
    described: dict[str, Any] = {
        "operationId": f"{op.method}-" + "-".join(p.strip("{}") for p in op.path.split("/")[2:]),
        "summary": op.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in in_path
        ]
        + list(op.query),
        "responses": {str(op.status): _answer(op, names)},
    }
    if op.path.endswith(("/result", "/{path}")):
        described["responses"]["206"] = {**_answer(op, names), "description": "The range asked for"}
    error = {"description": "Error", "content": {JSON: {"schema": names[id(ErrorBody)]}}}
    described["responses"].update({str(status): error for status in sorted(op.errors)})
    if op.body is not None:
        bodies = op.body if isinstance(op.body, dict) else {JSON: op.body}
        content = {media: {"schema": names[id(body)] if _is_model(body) else body} for media, body in bodies.items()}
        described["requestBody"] = {"required": op.body is not Rerun, "content": content}  # which may be left out
    return described


def _answer(op: Operation, names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the answer of an operation that went well."""
    answer: dict[str, Any] = {"description": op.summary}
    if op.headers:
        answer["headers"] = op.headers
    if _is_model(op.answer):
        answer["content"] = {JSON: {"schema": names[id(op.answer)]}}
    elif op.answer is not None:
        answer["content"] = {media: {"schema": schema} for media, schema in op.answer.items()}
    return answer
