"""A future whose call is a job."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, Future
from typing import Any

from taskapi_jupyter.client.job import Job
from taskapi_jupyter.core.contract import JobStatus
from taskapi_jupyter.core.errors import (
    JobFailed,
    JobIsRunning,
    JobNotFound,
    JobNotInProgress,
    NotFound,
    NotKept,
    ResultNotStored,
    TaskAPIError,
    Unreachable,
)
from taskapi_jupyter.core.states import JobCode


class JobFuture(Future[Any]):
    """The result of a call that runs as a job; :class:`Executor` makes it.

    Its result is what the function returned, or the exception that it raised, with the job's traceback as cause. It is
    ``JobFailed`` where the job ended in another way, such as out of memory or of time, or where the exception can't be
    pickled; ``CancelledError`` where the job was stopped or deleted; ``Unreachable`` where the job's server has not
    answered for 15 seconds: the job goes on then, and :meth:`Executor.attach` finds it.
    """

    def __init__(self, job: Job) -> None:
        super().__init__()
        self._job = job
        self._moving = threading.RLock()  # the waiting thread and `cancel` may learn of one change at a time

    @property
    def job(self) -> Job:
        """The job; of one that failed and is tried again, the last attempt that is known of."""
        return self._job

    def cancel(self) -> bool:
        """Stop the job if it is pending, and return whether the future is cancelled.

        False where the job runs or has ended, or where its server does not answer. ``future.job.stop()`` stops a job
        that runs.
        """
        if self.running() or self.done():
            return super().cancel()
        try:
            self._job.api.cancel(self._job)
        except JobIsRunning:
            self.begin()
            return False
        except JobNotInProgress:
            return self.cancelled()  # by somebody who asked at the same time
        except TaskAPIError:
            return False
        self.end_cancelled()
        return True

    # What the waiting thread calls

    def begin(self) -> bool:
        """Note that the job has started; return whether the future waits for its result."""
        with self._moving:
            return self.running() or (not self.done() and self.set_running_or_notify_cancel())

    def end_cancelled(self) -> None:
        """Note that the job was stopped or deleted."""
        with self._moving:
            if self.done():
                return
            if self.running():
                self.set_exception(CancelledError())
            else:
                super().cancel()
                self.set_running_or_notify_cancel()  # which notifies those who wait

    def end(self, error: BaseException) -> None:
        """Note that the result is an exception."""
        if self.begin():
            self.set_exception(error)

    def see(self, record: JobStatus) -> bool:
        """Take over a job's state as it was read; return whether the future is done.

        Raises :class:`Unreachable` where the job has ended and its result can't be read now.
        """
        if record.job_id != self._job.id:
            self._job = Job(self._job.api, record)
        self._job.record = record
        if record.code.in_progress:
            if record.code is JobCode.RUNNING:
                self.begin()
        elif record.code is JobCode.STOPPED:
            self.end_cancelled()
        elif record.code is JobCode.SUCCEEDED:
            self._succeed()
        else:
            self.end(self._failure())
        return self.done()

    def _failure(self) -> BaseException:
        try:
            self._job.check()
            raise AssertionError(self._job.record.status)
        except JobFailed as error:
            failed = error.with_traceback(None)
        try:
            return self._job.api.exception(self._job) or failed
        except Unreachable:
            raise
        except TaskAPIError:  # where none is kept, or of an older server
            return failed

    def _succeed(self) -> None:
        job = self._job
        try:
            result = job.api.result(job)
        except Unreachable:
            raise
        except JobNotFound:
            self.end_cancelled()
        except (NotKept, ResultNotStored) as error:
            self.end(error)
        except NotFound:  # a task that leaves none
            self._end_with(None)
        except Exception as error:  # it can't be loaded: whatever code of its classes raises
            self.end(error)
        else:
            self._end_with(result)

    def _end_with(self, result: Any) -> None:
        if self.begin():
            self.set_result(result)
