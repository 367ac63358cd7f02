"""``POST deploy``: one API as JSON, or Cortex's form with a configuration and a project folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tornado.httputil import HTTPFile, HTTPInputError, parse_body_arguments

from taskapi_jupyter import deployment, spec
from taskapi_jupyter.contract import MAX_BODY, DeployRequest, DeployResult, decode, encode
from taskapi_jupyter.errors import BadRequest, TaskAPIError, TooLarge, size
from taskapi_jupyter.service import Service

from .base import BodyHandler, guarded
from .project import MAX_PROJECT, unpacked

FORM = "multipart/form-data"
FRAME = 1 << 20  # bytes that a form may take beside its parts


class DeployHandler(BodyHandler):
    """Deploy."""

    contract = True

    @property
    def is_form(self) -> bool:
        """Say whether the body is a form."""
        kind: str = self.request.headers.get("Content-Type", "")
        return kind.strip().lower().startswith(FORM)

    @property
    def max_body(self) -> int:
        """Return the largest body that is taken: a form's project has a cap of its own."""
        return MAX_BODY + MAX_PROJECT + FRAME if self.is_form else MAX_BODY

    @guarded
    async def post(self, env: str) -> None:
        """Answer a list with what became of each API."""
        environment, body = self.environment(env), self.body()
        self.flag("force")  # Cortex's: here a deploy never waits for jobs, so there is nothing to force
        name = self.get_query_argument("configFileName", "") or "config"
        form = self.is_form and self.request.headers["Content-Type"]

        def deploy() -> bytes:
            if form:
                config, project = parts(form, body)
                apis = parsed(config, name)
                if project is None:
                    return encode(deploy_all(environment, apis, Path(self.serverapp.root_dir)))
                with unpacked(project, self.extension.folder) as folder:
                    return encode(deploy_all(environment, apis, folder))
            results = environment.deploy_request(decode(body, DeployRequest))
            if error := next((result.error for result in results if result.error), None):
                raise BadRequest(error)
            return encode(results)

        self.finish(await self.slow(deploy))


def parsed(config: str, name: str) -> list[dict[str, Any]]:
    """Return the APIs of a configuration, or raise :class:`BadRequest` that begins with its name."""
    try:
        return spec.parse(config)
    except BadRequest as error:
        raise BadRequest(f"{name[:128]}: {error}") from None


def deploy_all(service: Service, apis: list[dict[str, Any]], cwd: Path) -> list[DeployResult]:
    """Deploy each API of a configuration; of several, one that fails doesn't stop the others."""
    if len(apis) == 1:
        return deploy_one(service, apis[0], cwd)
    results = []
    for api in apis:
        try:
            results += deploy_one(service, api, cwd)
        except TaskAPIError as error:
            results.append(DeployResult(error=error.message))
    return results


def deploy_one(service: Service, api: dict[str, Any], cwd: Path) -> list[DeployResult]:
    """Deploy one API as its configuration has it."""
    results = []
    for request in deployment.prepare(api, cwd=cwd):
        answer = service.deploy_request(request)
        deployment.add_warnings(answer, api, request, provider=service.provider, environ={})
        results += answer
    return results


def parts(content_type: str, body: bytes) -> tuple[str, bytes | None]:
    """Return a form's ``config`` as text and its ``project.zip``, sent as files or as plain fields."""
    fields: dict[str, list[bytes]] = {}
    files: dict[str, list[HTTPFile]] = {}
    try:
        parse_body_arguments(content_type, body, fields, files)
    except HTTPInputError as error:
        raise BadRequest(f"malformed form: {error}") from None

    def part(name: str) -> bytes | None:
        found = [file.body for file in files.get(name, [])] + fields.get(name, [])
        return found[0] if found else None

    config, project = part("config"), part("project.zip")
    if config is None:
        raise BadRequest("the form has no part 'config', which holds the APIs as YAML")
    if len(config) > MAX_BODY:
        raise TooLarge(f"the part 'config' is larger than {size(MAX_BODY)}")
    try:
        return config.decode(), project
    except UnicodeDecodeError:
        raise BadRequest("the part 'config' is not UTF-8 text") from None
