"""The OpenAPI document, made from the table of routes; bodies are the wire model's Structs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from inspect import cleandoc
from typing import Any, get_args

import msgspec
from msgspec import UnsetType

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core import contract
from taskapi_jupyter.core.contract import (
    DeployRequest,
    ErrorBody,
    GroupRequest,
    GroupRerun,
    Rerun,
    ScheduleRequest,
    Submission,
    encode,
)

JSON = "application/json"
#: Errors that each route of an environment may answer: bad values, no credentials, a wrong path, no room; for a cluster
#: also that it can't be reached, refuses us or is slow.
ALWAYS = (400, 403, 404, 502, 503, 504, 507)


@dataclass(frozen=True)
class Operation:
    """One method of one path. HEAD is answered wherever GET is, and not described.

    ``answer`` is a body's type, or schemas by media type; ``errors`` are those beside what each route may answer.
    """

    summary: str
    answer: Any
    query: tuple[dict[str, Any], ...] = ()
    body: Any = None
    errors: tuple[int, ...] = ()
    headers: dict[str, Any] = field(default_factory=dict)
    status: int = 200


def query(name: str, schema: dict[str, Any], description: str, *, required: bool = False) -> dict[str, Any]:
    """Describe a query parameter."""
    return {"name": name, "in": "query", "required": required, "schema": schema, "description": description}


def header(schema: dict[str, Any], description: str) -> dict[str, Any]:
    """Describe an answer's header."""
    return {"schema": schema, "description": description}


def document(base_url: str, routes: Mapping[str, Mapping[str, Operation]]) -> bytes:
    """Return the document for a server at ``base_url``, as JSON."""
    operations = [op for methods in routes.values() for op in methods.values()]
    types = [
        t for op in operations for t in (op.answer, op.body, *_values(op.answer), *_values(op.body)) if _is_model(t)
    ]
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
        if name in components and model not in (
            Submission,
            DeployRequest,
            Rerun,
            GroupRequest,
            GroupRerun,
            ScheduleRequest,
        ):  # what we answer has every key
            fields = msgspec.structs.fields(model)
            components[name]["required"] = [one.encode_name for one in fields if UnsetType not in get_args(one.type)]
    paths = {
        path: {method: _operation(path, method, op, names) for method, op in methods.items()}
        for path, methods in routes.items()
    }
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
                        "description": "The Jupyter server's token; `Authorization: token …` is accepted too.",
                    }
                },
            },
        }
    )


def _values(body: Any) -> list[Any]:
    return list(body.values()) if isinstance(body, dict) else []


def _is_model(value: Any) -> bool:
    return value is not None and not isinstance(value, dict)


def _operation(path: str, method: str, op: Operation, names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return one operation as the document has it."""
    in_path = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    described: dict[str, Any] = {
        "operationId": f"{method}-" + "-".join(p.strip("{}") for p in path.split("/")[2:]),
        "summary": op.summary,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
            for name in in_path
        ]
        + list(op.query),
        "responses": {str(op.status): _answer(op, names)},
    }
    if path.endswith(("/result", "/exception", "/notebook", "/{path}")):
        described["responses"]["206"] = {**_answer(op, names), "description": "The range asked for"}
    if "ETag" in op.headers:
        described["responses"]["304"] = {"description": "The client has it: `If-None-Match`"}
    always = ALWAYS if "{env}" in path else (403, 503)
    error = {"description": "Error", "content": {JSON: {"schema": names[id(ErrorBody)]}}}
    described["responses"].update({str(status): error for status in sorted({*always, *op.errors})})
    if op.body is not None:
        bodies = op.body if isinstance(op.body, dict) else {JSON: op.body}
        described["requestBody"] = {
            "required": op.body is not Rerun,
            "content": _content(bodies, names),
        }  # which may be left out
    return described


def _answer(op: Operation, names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """Return the answer of an operation that went well."""
    answer: dict[str, Any] = {"description": op.summary}
    if op.headers:
        answer["headers"] = op.headers
    if op.answer is not None:
        answer["content"] = _content(op.answer if isinstance(op.answer, dict) else {JSON: op.answer}, names)
    return answer


def _content(bodies: dict[str, Any], names: dict[int, dict[str, Any]]) -> dict[str, Any]:
    return {media: {"schema": names[id(body)] if _is_model(body) else body} for media, body in bodies.items()}
