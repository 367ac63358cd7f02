"""The notebook that a job runs, as it stands."""

from __future__ import annotations

import os
from typing import IO

from msgspec import structs

from taskapi_jupyter.client.taskapi import TaskAPI
from taskapi_jupyter.core.contract import KeptKernel, Message, encode
from taskapi_jupyter.core.errors import BadRequest, NoNotebookYet
from taskapi_jupyter.server import export, notebooks
from taskapi_jupyter.server.authentication import guarded

from .base import Handler
from .body import BodyHandler
from .files import FileBase
from .held import HeldHandler

NOTEBOOK = "application/x-ipynb+json"


class NotebookHandler(HeldHandler, FileBase):
    """The notebook as it was last saved, in another format, or the cells of it that have changed."""

    version = ""
    media = NOTEBOOK
    file: IO[bytes] | None = None
    missing: NoNotebookYet | None = None

    @guarded
    async def get(self, env: str, job_id: str) -> None:  # type: ignore[override]
        """Answer it; with ``wait``, once it is another one than the client has or the job has ended."""
        self.since, form = self.text("since"), self.text("format")
        if form is not None and form not in export.FORMATS:
            raise BadRequest(f"format must be one of {', '.join(export.FORMATS)}, not {form[:64]!r}")
        if form is not None and self.since is not None:
            raise BadRequest("give either since or format")
        had = self.request.headers.get("If-None-Match", "")

        def open_it(environment: TaskAPI) -> tuple[str, IO[bytes], bool]:
            # What has ended saves no more: its state is read before its notebook.
            ended = self.waits and not environment.job_response(job_id).job_status.code.in_progress
            return *environment.open_notebook(job_id), ended

        async def look() -> bool:
            self.close()
            try:
                self.name, file, ended = await self.backends.ask(env, open_it, self.backends.keeping(env))
            except NoNotebookYet as error:
                self.missing = error
                return False
            self.file, self.version = file, notebooks.version_of(file)
            return ended or (self.version != self.since if self.since else f'"{self.version}"' not in had)

        try:
            await self.hold(env, look, job_id, "files/")
            if self.file is None:
                assert self.missing is not None
                raise self.missing
            if form is not None:
                await self.serve_as(env, job_id, form, self.file)
            elif self.since is None:
                self.set_attachment_header(self.name)
                await self.serve(env, self.name, self.file)
            else:
                where = (self.backends.environment(env).home, job_id)
                changes = self.backends.notebooks.changes
                self.finish(await self.slow(changes, where, self.since, self.version, self.file))
        finally:
            self.close()

    async def serve_as(self, env: str, job_id: str, form: str, file: IO[bytes]) -> None:
        """Answer the notebook in another format, made again where it has changed since."""
        notebooks.check_size(file)
        stem = self.name.removesuffix(".ipynb")
        folder = self.backends.environment(env).paths.job(job_id).folder
        name = stem + await self.slow(export.extension_of, file, form)
        self.media = export.FORMATS[form][2]
        self.set_attachment_header(name)
        await self.serve(env, name, await self.slow(export.converted, folder, file, form, stem))

    def close(self) -> None:
        """Close the file, where one is open."""
        if self.file is not None:
            self.file.close()
            self.file = None

    def compute_etag(self) -> str | None:
        """Return the version as a tag."""
        return f'"{self.version}"' if self.version else None

    def should_return_304(self) -> bool:
        """Go by the tag alone: two saves may be of one second, which is all that a date can tell."""
        return self.check_etag_header()

    def get_content_type(self) -> str:
        """Return the media type of notebooks, or of another format."""
        return self.media


class KernelHandler(Handler):
    """The kernel that a job keeps after a cell of its notebook failed."""

    @guarded
    async def get(self, env: str, job_id: str) -> None:
        """Answer where it is, and under which id this server has it."""
        found = await self.backends.ask(env, lambda environment: environment.kernel(job_id))
        self.finish(encode(self.listed(found)))

    def listed(self, found: KeptKernel) -> KeptKernel:
        """Add the id, or what has this server list it."""
        for kernel_id, file in notebooks.kept_kernels(self.kernel_manager).items():
            if file == found.connection_file:
                return structs.replace(found, kernel_id=kernel_id)
        if not self.kernel_manager.has_trait("external_connection_dir"):
            return structs.replace(found, hint="to open it in JupyterLab, update jupyter_client to 8.4 or later")
        folder = os.path.dirname(found.connection_file)
        lines = f"c.ServerApp.allow_external_kernels = True\nc.ServerApp.external_connection_dir = {folder!r}"
        return structs.replace(
            found, hint=f"to open it in JupyterLab, add to jupyter_server_config.py and restart the server:\n{lines}"
        )


class ResumeHandler(BodyHandler):
    """Go on from the cell that failed."""

    @guarded
    async def post(self, env: str, job_id: str) -> None:
        """Ask the job that keeps its kernel."""
        self.finish(encode(Message(await self.backends.ask(env, lambda environment: environment.resume(job_id)))))


class EndKernelHandler(BodyHandler):
    """End a kernel that is kept."""

    @guarded
    async def post(self, env: str, job_id: str) -> None:
        """Ask the job that keeps it."""
        self.finish(encode(Message(await self.backends.ask(env, lambda environment: environment.end_kernel(job_id)))))
