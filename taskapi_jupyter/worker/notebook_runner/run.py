"""The run of one notebook: its kernel, its cells one after the other, and how it ends."""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import suppress
from typing import Any

import harness  # type: ignore[import-not-found]
from harness import fault_point

from .cells import Cells
from .document import Document, Saver
from .ends import Failed, Stopped
from .kept import END, RESUME, Kept, asked
from .kernel import TERM, Kernel
from .parameters import offered
from .telling import Log, Progress, plain

STARTUP = 60  # seconds that a kernel may take until it answers
INTERRUPTED = 5  # seconds that an interrupted cell may take to end
LOOK_AT_REQUEST = 0.1  # seconds between looks at what is asked of a kernel that is kept
LOOK = 0.25  # seconds between looks at what a cell says of its progress


class Run:
    """The run of one notebook; ``job`` is the job's folder."""

    def __init__(self, settings: dict[str, Any], job: str, kernel: Kernel) -> None:
        self.settings, self.job, self.out, self.kernel = settings, job, os.path.join(job, ""), kernel
        self.log = Log()
        self.stopping = ""  # "stopped" or "timed out" once a TERM has come
        self.at: int | None = None  # the cell that runs
        self.resumed: list[int] = []  # the cells at which somebody had it go on
        folder = os.path.dirname(kernel.progress)
        self.progress = Progress(os.path.join(job, "progress.json"), kernel.progress, folder)
        path = settings["notebook"]
        with open(os.environ["TASKAPI_JOB_SPEC"], encoding="utf-8") as file:
            values = json.load(file)["config"]
        with open(path, "rb") as file:
            self.document = Document(file.read(), values, kernel.name, kernel.language, offered())
        if not self.document.injected:
            self.log.line("taskapi: no cell is tagged `parameters`: the job's are in a new first cell")
        self.saver = Saver(
            self.document, os.path.join(os.environ["TASKAPI_OUTPUT_DIR"], os.path.basename(path)), folder
        )
        self.saver.save()
        self.cells = Cells(self.document, kernel, self.saver, self.log, settings["log_max_bytes"])

    async def run(self) -> None:
        """Execute the cells and end the kernel; raise :class:`Failed` where that is how it ends."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(TERM, self._on_term)
        try:
            await self._connect()
            for at in self.document.numbers:
                while True:
                    try:
                        await self._execute(at)
                        break
                    except Stopped:
                        raise
                    except Failed as error:
                        if not await self._keep(at, error):
                            self._last_save(at)
                            raise
                if self.cells.left:
                    number = self.document.numbers[at]
                    self.log.line(f"taskapi: cell {number} asked to exit: the cells below it are not run")
                    break
            await self._succeed()
        except Failed:
            self.kernel.kill()
            raise

    async def _connect(self) -> None:
        seconds = self.settings["startup_timeout"] or STARTUP
        await self.cells.connect(seconds, lambda: bool(self.stopping))
        if self.kernel.pidfd is not None:
            asyncio.get_running_loop().add_reader(self.kernel.pidfd, self._on_death)

    # A cell

    async def _execute(self, at: int) -> None:
        """Execute a cell; raise :class:`Failed` where it fails."""
        from nbclient.exceptions import CellExecutionError, DeadKernelError

        total = len(self.document.numbers)
        number, heading = self.document.numbers[at], self.document.headings[at]
        self.at = at
        self.document.begin(at)
        self.cells.begin()
        self.log.line(f"── cell {number}/{total}{f' · {heading}' if heading else ''} ──")
        cell = self.document.content["cells"][at]
        self.progress.forget()
        fault_point("notebook.cell_starting")
        task = asyncio.ensure_future(self.cells.async_execute_cell(cell, at))
        await asyncio.sleep(0)  # the request goes out first
        self.saver.changes(pause=0)
        self._say(at, "running")
        timeout = self.settings["cell_timeout"]
        late = False
        try:
            await self._watched(task, timeout)
            if not task.done():
                late = True
                self.cells.interrupt()
                await self._watched(task, INTERRUPTED)
                task.cancel()
            task.result() if task.done() else await task
        except CellExecutionError as error:
            if self.stopping:
                await self._leave()
            if error.ename == "SystemExit" and str(error.evalue) in ("", "0", "None"):
                self.cells.left = True
            elif not late:
                self._fail(at, f"{error.ename}: {error.evalue}", memory=error.ename.endswith("MemoryError"))
        except DeadKernelError:
            if not late:
                await self._died(at)
        if self.stopping:
            await self._leave()
        if late:
            self._fail(at, f"took longer than its cell_timeout of {timeout} s")
        self.document.end(at, "completed", error=False)
        self.at = None
        self.saver.changes(**({"pause": 0} if cell["outputs"] else {}))
        fault_point("notebook.cell_ended")

    async def _watched(self, task: asyncio.Future[Any], seconds: float | None) -> None:
        """Wait for a cell, and look meanwhile at what it says of its progress."""
        loop = asyncio.get_running_loop()
        until = None if seconds is None else loop.time() + seconds
        while not task.done() and (until is None or loop.time() < until):
            await asyncio.wait({task}, timeout=LOOK if until is None else min(LOOK, until - loop.time()))
            self.progress.look()

    def _say(self, at: int, status: str, shift: int = 0, message: str | None = None) -> None:
        cell = {"index": at + shift, "id": self.document.content["cells"][at + shift]["id"], "status": status}
        done = self.document.numbers[at] - 1
        self.progress.put(done, len(self.document.numbers), message or self.document.headings[at] or None, cell)

    def _fail(self, at: int, why: str, memory: bool = False) -> None:
        """End the job because of a cell."""
        if "StdinNotImplementedError" in why.partition(":")[0]:
            why = "input(): a job has no standard input: give the value as a parameter"
        reason = f"{self.document.label(at)}: {plain(why, 2000)}"
        self.document.end(at, "failed", error=True)
        self.at = None
        failed = Failed(reason)
        if memory:
            failed.marker = "memory"
        raise failed

    async def _keep(self, at: int, error: Failed) -> bool:
        """Hold the kernel for the time that the job was deployed with; return whether the cell is to run again.

        Where it is not, ``error`` says all that there is to be said.
        """
        seconds = self.settings["keep_kernel"]
        if not seconds or not self.kernel.alive():
            return False
        kept = Kept(os.environ["TASKAPI_HOME"], os.environ["TASKAPI_JOB_ID"])
        request, most = os.path.join(self.job, "kernel-request"), self.settings["keep_kernels"]
        with suppress(OSError):
            os.unlink(request)  # for a kernel that was kept before
        self.saver.save()
        try:
            if not kept.take(self.kernel.connection, most):
                raise OSError(0, f"{most} of this home are kept already (keep_kernels in config.yaml)")
            until = time.time() + seconds
            number = self.document.numbers[at]
            text = f"failed in cell {number}; kernel kept until {time.strftime('%H:%M', time.localtime(until))}"
            name = os.environ["TASKAPI_JOB_ID"]
            self.log.line(f"taskapi: {text}; to look into it: %taskapi attach {name}; to go on: %taskapi resume {name}")
            self._say(at, "failed", message=text)
            fault_point("notebook.kernel_kept")
            loop = asyncio.get_running_loop()
            end = loop.time() + seconds
            while (word := asked(request)) != END and loop.time() < end and not self.stopping:
                if word == RESUME:
                    self.resumed.append(number)
                    self.log.line(f"taskapi: resumed at cell {number}")
                    return True
                if not self.kernel.alive():
                    error.args = (f"{error}; its kernel ended while it was kept",)
                    break
                await self.cells.forget_messages()
                await asyncio.sleep(LOOK_AT_REQUEST)
        except OSError as problem:
            said = f"its kernel is not kept: {problem.strerror}"
            self.log.line(f"taskapi: {said}")
            error.args = (f"{error}; {said}",)
        finally:
            kept.leave()
        if self.stopping:
            await self._leave()
        return False

    def _last_save(self, at: int | None) -> None:
        """Write the notebook as it stays; ``at`` is the cell that failed."""
        self.cells.set_widgets_metadata()
        shift = self.document.mark(at) - at if at is not None else 0
        self.document.finish()
        self.saver.save()
        if at is not None:
            self._say(at, "failed", shift)
        if "html" in self.settings["outputs"] and (problem := self.saver.write_html()):
            self.log.line(f"taskapi: the notebook could not be written as HTML: {plain(problem)}")
        fault_point("notebook.last_saved")

    # How it ends

    async def _succeed(self) -> None:
        self.cells.ask_to_leave()
        self._last_save(None)
        total = len(self.document.numbers)
        self.progress.put(total, total, None, None)
        harness.keep(
            self.out, self.cells.glued, os.path.basename(os.path.dirname(self.settings["notebook"])), "__main__"
        )
        told = f"resumed at cell {', '.join(map(str, self.resumed))}" if self.resumed else ""
        if self.saver.error is not None:
            told = f"its notebook could not be saved: {self.saver.error.strerror}"
        harness.report(self.out, "returned", told)
        loop = asyncio.get_running_loop()
        until = loop.time() + self.settings["stop_grace"]
        while self.kernel.alive() and loop.time() < until and not self.stopping:
            await asyncio.sleep(0.01)  # it runs what is to run at its exit
        self.kernel.kill()

    def _on_term(self) -> None:
        """Mark and save; the cell goes on until its kernel, which gets the same signal, has ended."""
        if self.stopping:
            return
        self.stopping, from_watcher = "stopped", False
        with suppress(OSError):
            with open(os.path.join(self.job, "ending"), encoding="utf-8") as file:
                self.stopping = file.read().replace("_", " ")
            from_watcher = True
        if self.at is not None:
            self.document.end(self.at, self.stopping, error=True)
            self._say(self.at, self.stopping)
        self.document.finish()
        self.saver.save()
        if not from_watcher:  # somebody else's, sent to us alone
            self.kernel.signal(TERM)

    async def _leave(self) -> None:
        """End as the TERM that came would have it."""
        if self.saver.changed:
            self.saver.save()
        raise Stopped

    def _on_death(self) -> None:
        """Have the cell end with its kernel, once what that said last has been read."""
        loop = asyncio.get_running_loop()
        if self.kernel.pidfd is not None:
            loop.remove_reader(self.kernel.pidfd)
        loop.call_later(0.05, lambda: self.cells.task_poll_for_reply and self.cells.task_poll_for_reply.cancel())

    async def _died(self, at: int) -> None:
        """End because the kernel has: by the same signal, so that the watcher judges it as any task."""
        if not self.stopping and os.path.exists(os.path.join(self.job, "ending")):
            self._on_term()
        if self.stopping:
            await self._leave()
        code = self.kernel.wait()
        if code >= 0:
            self._fail(at, f"the kernel ended with exit code {code}")
        failed = Failed(self.document.label(at))
        self.document.end(at, "failed", error=True)
        failed.marker, failed.number = "died", -code
        raise failed
