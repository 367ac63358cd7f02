"""The functions of the verbs; those on environments are in :mod:`.envs`."""

from __future__ import annotations

import os
import sys
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from taskapi_jupyter import environments
from taskapi_jupyter._version import __version__
from taskapi_jupyter.client import log_reader, waiting
from taskapi_jupyter.client.job_lookup import Resolver, Unclear
from taskapi_jupyter.client.taskapi import Job, JobList, TaskAPI
from taskapi_jupyter.core.contract import JobResponse, JobStatus, LogChunk
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.literals import NotLiteral, literal
from taskapi_jupyter.deploy.values import plain
from taskapi_jupyter.display import api_text, apis_text, clean, deploy_text, job_text, jobs_text
from taskapi_jupyter.display.screen import Screen
from taskapi_jupyter.service.home import default_home

from .output import Answer, show, show_json, tell


def deploy(options: Namespace) -> int:
    """Deploy the APIs of a configuration file."""
    from taskapi_jupyter.deploy.requirements import requirement_warnings

    path = Path(options.file)
    if not path.exists():
        raise Unclear(f"there is no file {options.file!r}")
    results = _connect(options).deploy(path, **({} if options.warm is None else {"warm": options.warm}))
    unmet = requirement_warnings(path if path.is_dir() else path.parent)
    show(options, lambda: (results, lambda colour: deploy_text(results, unmet, colour=colour)))
    return 1 if any(result.error for result in results) else 0


def submit(options: Namespace) -> int:
    """Start a job, and wait for it with ``--wait``."""
    config = _object(options.config) if options.config is not None else {}
    for pair in options.pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise Unclear(f"write configuration as key=value, not {pair!r}")
        config[key] = _value(text, key)
    job = _connect(options).submit(options.api, config or None, options.timeout, run_timeout=options.run_timeout)
    if options.wait:
        return _ended(options, [job], None)
    # From the answer to the submission: a cluster may not know the job yet, and an error would hide that it runs.
    show(options, lambda: _response_answer(JobResponse(job.record, job.endpoint)))
    return 0


def get(options: Namespace) -> None:
    """Show all APIs and jobs, one API, or one job."""
    api = _connect(options)
    show(options, lambda: _read(api, options))


def _read(api: TaskAPI, options: Namespace) -> Answer:
    if options.job is not None:
        return _job_answer(_job(api, [options.job], options.api))
    if any(one is not None for one in (options.status, options.limit, options.search)):
        return _jobs_answer(_listed(api, options))
    if options.api is None:
        apis = api.get()

        def overview(colour: bool) -> str:
            jobs = api.jobs(limit=20)
            below = f"\n\n{_jobs_answer(jobs)[1](colour)}" if jobs else ""
            return apis_text(apis, colour=colour) + below

        return apis, overview
    try:
        one = api.get(options.api)
    except APINotDeployed:
        try:
            return _job_answer(_job(api, [options.api]))
        except Unclear:
            pass
        raise
    return [one], lambda colour: api_text(one, colour=colour)


def delete(options: Namespace) -> None:
    """Delete an API and stop its jobs, or stop one job."""
    api = _connect(options)
    job = None if options.job is None else _job(api, [options.job], options.api)
    message = api.delete(options.api) if job is None else api.stop(job)
    show(options, lambda: ({"message": message}, lambda colour: clean(message)))


def jobs(options: Namespace) -> None:
    """List jobs, newest first."""
    api = _connect(options)
    show(options, lambda: _jobs_answer(_listed(api, options)))


def _listed(api: TaskAPI, options: Namespace) -> JobList:
    """Return the jobs that a line asks for; a search goes on until all jobs were looked at, or enough were found."""
    limit = options.limit or 50
    found = api.jobs(options.api, options.status, limit, search=options.search)
    while found.searched is not None and found.next_cursor and len(found) < limit:
        more = api.jobs(options.api, options.status, limit - len(found), found.next_cursor, options.search)
        found.extend(more)
        found.next_cursor, found.searched = more.next_cursor, found.searched + (more.searched or 0)
    return found


def count(options: Namespace) -> None:
    """Count jobs by status."""
    counts = _connect(options).counts(options.api, options.status)
    words = [f"{number:,} {JobCode.read(code).label}" for code, number in sorted(counts.items())]
    show(options, lambda: (counts, lambda colour: "\n".join(map(clean, words)) or "no jobs"))


def purge(options: Namespace) -> None:
    """Delete jobs that have ended."""
    message = _connect(options).purge(options.api, options.status, options.older_than)
    show(options, lambda: ({"message": message}, lambda colour: clean(message)))


def logs(options: Namespace) -> None:
    """Print a job's log, and what comes until it ends."""
    as_json = options.output == "json"
    if options.raw and as_json:
        raise Unclear("--raw prints bytes and can't be combined with -o json")
    api = _connect(options)
    job = _job(api, options.jobs)
    if options.raw:
        _raw(api.log_chunks(job, options.lines, not options.no_follow))
        return
    pieces: Iterable[str]
    if options.no_follow:
        screen, log = Screen(), api.logs(job, options.lines)
        pieces = [screen.feed(log), screen.close()]
    elif sys.stdout.isatty() and not as_json:
        pieces = log_reader.live(api.stream(job, options.lines))
    else:
        pieces = (f"{line}\n" for line in log_reader.lines(api.stream(job, options.lines), states=False))
    if as_json:
        show_json({"job_id": job.id, "log": "".join(pieces)})
        return
    for piece in pieces:
        sys.stdout.write(piece)
        sys.stdout.flush()


def _raw(chunks: Iterable[LogChunk]) -> None:
    """Write a log's bytes as the task wrote them; report on standard error what was dropped."""
    at: int | None = None
    for chunk in chunks:
        if at is not None and chunk.offset > at:
            tell(f"{chunk.offset - at} bytes of output were dropped at byte {at}")
        sys.stdout.buffer.write(chunk.data)
        sys.stdout.buffer.flush()
        at = chunk.next


def wait(options: Namespace) -> int:
    """Wait for jobs to end."""
    return _ended(options, Resolver(_connect(options), {}, None).many(options.jobs), options.timeout)


def version(options: Namespace) -> None:
    """Print this program's version, and that of a cluster."""
    found = {"cli_version": __version__}
    if options.env is not None and (of_cluster := _connect(options).cluster_version()):
        found["cluster_version"] = of_cluster
    lines = [f"{what.replace('_', ' ')}: {number}" for what, number in found.items()]
    show(options, lambda: (found, lambda colour: "\n".join(map(clean, lines))))


def examine(options: Namespace) -> int:
    """Print what is wrong with this machine's home; return 1 if something is."""
    from taskapi_jupyter.ui import doctor

    home = default_home()
    found, wrong = doctor.facts(home), doctor.problems(home)
    lines = [f"{what}: {value}" for what, value in found.items()] + (wrong or ["no problems found"])
    show(options, lambda: ({**found, "problems": wrong}, lambda colour: "\n".join(map(clean, lines))))
    return 1 if wrong else 0


def serve(options: Namespace) -> int:
    """Replace this process by a plain Jupyter server with this extension alone."""
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--ServerApp.ip={options.ip}"]
    command.append("--ServerApp.jpserver_extensions=taskapi_jupyter=True")
    if options.port is not None:
        command.append(f"--ServerApp.port={options.port}")
    sys.stdout.flush()
    # Without this, the server loads the other extensions that are enabled in this installation.
    os.execve(command[0], command + options.more, {**os.environ, "JUPYTER_NO_CONFIG": "1"})  # noqa: S606


def _connect(options: Namespace) -> TaskAPI:
    return environments.connect(options.env)


def _job(api: TaskAPI, words: list[str], of: str | None = None) -> Job:
    """Return the one job that words mean, of one API where that is said."""
    return Resolver(api, {}, None).one(words, of)


def _ended(options: Namespace, jobs: list[Job], timeout: float | None) -> int:
    """Wait for jobs and show them; return 0 if all succeeded, else 1."""
    waiting.wait(jobs, timeout)
    show(options, lambda: _job_answer(jobs[0]) if len(jobs) == 1 else _jobs_answer(jobs))
    return 0 if all(job.record.code is JobCode.SUCCEEDED for job in jobs) else 1


def _job_answer(job: Job) -> Answer:
    # A cluster knows jobs by their API; elsewhere a job can be read when its API is deleted.
    return _response_answer(job.api.job_response(job.id, job.api_name))


def _response_answer(response: JobResponse) -> Answer:
    return response, lambda colour: job_text(response.job_status, response.endpoint, colour=colour)


def _jobs_answer(jobs: list[Job]) -> Answer:
    records: list[JobStatus] = [job.record for job in jobs]
    more, searched = (bool(jobs.next_cursor), jobs.searched) if isinstance(jobs, JobList) else (False, None)
    return records, lambda colour: jobs_text(records, more, searched, colour=colour)


def _value(text: str, where: str) -> Any:
    """Return a literal of Python or JSON where a text parses as one, else the text."""
    try:
        found = literal(text.strip())
    except NotLiteral:
        found = text
    try:
        return plain(found, where)
    except BadRequest as error:
        raise Unclear(str(error)) from None


def _object(text: str) -> dict[str, Any]:
    value = _value(text, "--config")
    if not isinstance(value, dict):
        raise Unclear(f"--config must be a JSON object or a dict, not {text[:60]!r}")
    return value
