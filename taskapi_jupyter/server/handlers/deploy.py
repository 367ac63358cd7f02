"""``POST deploy``: one API as JSON or as an upload, or Cortex's form with a configuration and a project folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from msgspec import structs

from taskapi_jupyter.core.contract import MAX_BODY, DeployRequest, DeployResult, decode, encode
from taskapi_jupyter.core.errors import BadRequest, TaskAPIError, printable
from taskapi_jupyter.server.authentication import guarded
from taskapi_jupyter.service.service import Service

from .body import BodyHandler
from .project_zip import MAX_PROJECT, unpacked
from .upload import Form

FORM = "multipart/form-data"
FRAME = 1 << 20  # bytes that a form may take beside its parts
UPLOAD = ("request", "source", "pickle")  # parts of an upload; the first tells it from Cortex's form
_PIECE = 1 << 20  # bytes of a form that are written at once


class DeployHandler(BodyHandler):
    """Deploy."""

    contract = True
    form: Form | None = None
    turned_down: TaskAPIError | None = None  # answered once the body was read
    is_whole = False

    @property
    def is_form(self) -> bool:
        """Whether the body is a form."""
        kind: str = self.request.headers.get("Content-Type", "")
        return kind.strip().lower().startswith(FORM)

    @property
    def max_body(self) -> int:
        """Return the largest body that is accepted; a form's parts have limits of their own."""
        return sum(self.limits.values()) + FRAME if self.is_form else MAX_BODY

    @property
    def limits(self) -> dict[str, int]:
        """Return how many bytes each part of a form may have."""
        upload = {"request": MAX_BODY, "source": MAX_BODY, "pickle": self.backends.max_upload}
        return {"config": MAX_BODY, "project.zip": MAX_PROJECT, **upload}

    def status_of(self, error: TaskAPIError) -> int:
        """Return the HTTP status of an error; for an upload that is too large, 413."""
        is_upload = self.is_form and (self.form is None or bool(set(UPLOAD) & set(self.form.names)))
        return error.status if is_upload and error.status == 413 else super().status_of(error)

    async def admit(self) -> None:
        """Check that the user may deploy, before a form is written to disk."""
        await super().admit()
        await self.check_authorized()

    async def data_received(self, chunk: bytes) -> None:  # type: ignore[override]
        """Keep a piece of the body: of a form in files, at the pace of their disk."""
        super().data_received(chunk)
        if self.is_form and sum(map(len, self._chunks)) >= _PIECE:
            await self._write()

    async def _write(self) -> None:
        """Write the received piece of a form, or drop it if the form was refused; that is raised after the body."""
        piece = b"".join(self._chunks)
        self._chunks.clear()
        if self.turned_down is not None:
            return
        try:
            if self.form is None:
                self.form = Form(self.request.headers["Content-Type"], self.backends.folder, self.limits)
            await self.backends.run(self.backends.uploads, self.form.write, piece)
        except TaskAPIError as error:
            self.turned_down = error
            self._discard()

    def _discard(self) -> None:
        """Remove the files of a form, once the write in progress has ended."""
        if self.form is not None:
            self.backends.discard(self.form.remove)

    def on_connection_close(self) -> None:
        """Remove the files of a form that will never be complete."""
        super().on_connection_close()
        if not self.is_whole:  # a complete form is deployed even if the client has gone
            self._discard()

    def on_finish(self) -> None:
        """Remove the files of a form that was answered."""
        super().on_finish()
        self._discard()

    @guarded
    async def post(self, env: str) -> None:
        """Answer a list with the result for each API."""
        self.is_whole = True
        environment = self.backends.environment(env)
        self.flag("force")  # Cortex's: here a deploy never waits for jobs, so there is nothing to force
        name, dry_run = self.get_query_argument("configFileName", "") or "config", self.flag("dryRun")
        if not self.is_form:
            body = self.body()
            self.finish(await self.slow(lambda: answer(environment.deploy_request(read(body, dry_run)))))
            return
        if self._received > self.max_body:
            raise self.too_large()
        if not self._received:
            raise BadRequest("the body is empty: send a form, or one API as JSON")
        await self._write()
        if self.turned_down is not None or self.form is None:
            raise self.turned_down or BadRequest("the form has no parts")
        form, root = self.form, Path(self.serverapp.root_dir)

        def deploy() -> bytes:
            try:
                form.finish()
                if set(UPLOAD) & set(form.names):
                    return answer(deploy_upload(environment, form, dry_run))
                return encode(deploy_form(environment, form, name, root, self.backends.folder, dry_run=dry_run))
            finally:
                form.remove()

        self.finish(await self.slow(deploy))


def answer(results: list[DeployResult]) -> bytes:
    """Return the answer to a deploy of one API, or raise what is wrong with it."""
    if error := next((result.error for result in results if result.error), None):
        raise BadRequest(error)
    return encode(results)


def read(body: bytes, dry_run: bool) -> DeployRequest:
    """Return the request in a JSON body; a dry run may be asked for in the body or in the query."""
    request = decode(body, DeployRequest)
    return structs.replace(request, dry_run=dry_run or request.dry_run)


def deploy_form(
    service: Service, form: Form, name: str, root: Path, home: Path, *, dry_run: bool
) -> list[DeployResult]:
    """Deploy Cortex's form; ``name`` is that of its configuration, ``root`` the folder if it has no project."""
    config, project = form.text("config"), form.read("project.zip")
    if config is None:
        raise BadRequest(
            "the form has no part 'config', which holds the APIs as YAML (or 'request', which holds one API as JSON)"
        )
    apis = parsed(config, name)
    if project is None:
        return deploy_all(service, apis, root, dry_run)
    with unpacked(project, home, keep=not dry_run) as folder:
        return deploy_all(service, apis, folder, dry_run)


def deploy_upload(service: Service, form: Form, dry_run: bool) -> list[DeployResult]:
    """Deploy one API that came as an upload; its pickle stays in its file."""
    for name in form.names:
        if name not in UPLOAD:
            raise BadRequest(f"the upload has a part {name[:64]!r}: its parts are 'request', 'source' and 'pickle'")
        if form.names.count(name) > 1:
            raise BadRequest(f"the upload has the part '{name}' more than once")
    body = form.read("request")
    if body is None:
        raise BadRequest("the upload has no part 'request', which holds the API as JSON")
    request = read(body, dry_run)
    for name in ("source", "pickle"):
        if name in form.names and getattr(request, name) is not None:
            raise BadRequest(f"'{name}' is given twice: as a part of the upload, and in its part 'request'")
    if "source" in form.names:
        request = structs.replace(request, source=form.text("source"))
    return service.deploy_request(request, pickle=form.files.get("pickle"))


def parsed(config: str, name: str) -> list[dict[str, Any]]:
    """Return the APIs of a configuration, or raise :class:`BadRequest` that begins with its name."""
    from taskapi_jupyter.deploy.api_spec.build import parse

    try:
        return parse(config)
    except BadRequest as error:
        raise BadRequest(f"{name[:128]}: {error}") from None


def deploy_all(service: Service, apis: list[dict[str, Any]], cwd: Path, dry_run: bool) -> list[DeployResult]:
    """Deploy each API of a configuration; of several, one that fails doesn't stop the others."""
    if len(apis) == 1:
        return deploy_one(service, apis[0], cwd, dry_run)
    results = []
    for api in apis:
        try:
            results += deploy_one(service, api, cwd, dry_run)
        except TaskAPIError as error:
            results.append(DeployResult(error=printable(error.message, but="\n")))
    return results


def deploy_one(service: Service, api: dict[str, Any], cwd: Path, dry_run: bool) -> list[DeployResult]:
    """Deploy one API as its configuration has it."""
    from taskapi_jupyter.deploy.advice import add_warnings
    from taskapi_jupyter.deploy.prepare import DeployOptions, prepare

    results = []
    for request in prepare(api, DeployOptions(cwd=cwd, dry_run=dry_run)):
        answer = service.deploy_request(request)
        add_warnings(answer, api, request, provider=service.provider, environ={})
        results += answer
    return results
