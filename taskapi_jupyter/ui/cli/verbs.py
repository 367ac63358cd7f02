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
from taskapi_jupyter.client import log_reader
from taskapi_jupyter.client.job_lookup import Resolver, Unclear
from taskapi_jupyter.client.taskapi import Job, JobList, TaskAPI
from taskapi_jupyter.client.waiting import jobs as waiting
from taskapi_jupyter.core.contract import DeployResult, JobResponse, JobStatus, LogChunk
from taskapi_jupyter.core.errors import APINotDeployed, BadRequest
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy import notebook
from taskapi_jupyter.deploy.literals import NotLiteral, literal
from taskapi_jupyter.deploy.values import plain
from taskapi_jupyter.display import api_text, apis_text, clean, deploy_text, job_text, jobs_text, kernel_text
from taskapi_jupyter.display.screen import Screen
from taskapi_jupyter.service.home import default_home
from taskapi_jupyter.ui import stops
from taskapi_jupyter.ui.verbs import VERBS, notebook_options, packages_options

from . import groups
from .output import Answer, Look, done, show, show_json, tell


def deploy(options: Namespace) -> int:
    """Deploy the APIs of a configuration file, or a notebook."""
    from taskapi_jupyter.deploy.prepare import unmet

    path = Path(options.file)
    if not path.exists():
        raise Unclear(f"there is no file {options.file!r}")
    more = {"timeout": options.timeout, "run_timeout": options.run_timeout, "warm": options.warm}
    given = {key: one for key, one in more.items() if one is not None}
    results = _deployed(_connect(options), path, options, {**given, "dry_run": options.dry_run})
    told = unmet(results, path if path.is_dir() else path.parent, kernel=options.kernel)
    show(options, lambda: (results, lambda look: deploy_text(results, told, colour=look.colour)))
    return 1 if any(result.error for result in results) else 0


def submit(options: Namespace) -> int:
    """Start a job or a group, and wait for it with ``--wait``."""
    if "=" in str(options.notify):  # argparse takes the pair that follows an option without a value for that
        options.pairs, options.notify = [options.notify, *options.pairs], True
    config = config_of(options.config, options.pairs)
    wanted = groups.configs(options, config, _value)
    is_notebook = notebook.is_notebook(options.api)
    if not is_notebook and (
        given := [one.name for one in VERBS["submit"].notebook_options if getattr(options, one.key, None)]
    ):
        raise Unclear(f"{given[0]} is for a notebook: give the path of a file that ends in .ipynb")
    inputs = dict(options.result or ())
    if wanted is not None and (options.after or options.after_any or inputs):
        raise Unclear("--after and --result are for a single job: a group can't wait for others")
    if options.dry_run:
        planned = {**config, **{key: f"result of {word}" for key, word in inputs.items()}}
        return groups.plan(options, [planned] if wanted is None else wanted)
    api, name, api_id = _connect(options), options.api, None
    more = {**groups.attempts(options), **_waits(options, api, inputs)}
    if is_notebook:
        name, api_id = notebook_of(api, options, {**config, **inputs} if wanted is None else next(iter(wanted), {}))
    if wanted is not None:
        return groups.submit(options, api, name, api_id, wanted)
    job = api.submit(name, config or None, options.timeout, api_id=api_id, run_timeout=options.run_timeout, **more)
    if options.wait:
        return ended(options, [job], None)
    # From the answer to the submission: a cluster may not know the job yet, and an error would hide that it runs.
    submitted(options, job)
    return 0


def config_of(text: str | None, pairs: Iterable[str]) -> dict[str, Any]:
    """Return the configuration of a line: that of ``--config``, with its pairs."""
    config = _object(text) if text is not None else {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise Unclear(f"write configuration as key=value, not {pair!r}")
        config[key] = _value(value, key)
    return config


def _waits(options: Namespace, api: TaskAPI, inputs: dict[str, str]) -> dict[str, Any]:
    """Return for which jobs the job of a line waits, and whose results it gets, as ``submit()`` takes them."""
    words = [word.strip() for given in options.after or () for word in given.split(",") if word.strip()]
    resolver = Resolver(api, {}, None)
    found = [one for word in words for one in resolver.groups([word]) or resolver.many([word])]
    results = {key: resolver.one([word]) for key, word in inputs.items()}
    return {"after": found or None, "after_any": options.after_any, "results": results or None}


def submitted(options: Namespace, job: Job) -> None:
    """Say that a job was submitted."""
    words = f"job {clean(job.id)} of {clean(job.api_name)} submitted"
    show(options, lambda: (JobResponse(job.record, job.endpoint), lambda look: words))


def _deployed(api: TaskAPI, path: Path, options: Namespace, more: dict[str, Any]) -> list[DeployResult]:
    """Deploy a file with the options of a line that say what its jobs need."""
    given: dict[str, Any] = {
        key: one for key in ("cpu", "mem", "gpu", "kernel") if (one := getattr(options, key)) is not None
    }
    given |= {"env": dict(options.env_var)} if options.env_var else {}
    given |= packages_options(vars(options))
    return api.deploy(path, **given, **more, **notebook_options(vars(options)))


def notebook_of(api: TaskAPI, options: Namespace, config: dict[str, Any]) -> tuple[str, str | None]:
    """Deploy the notebook of a submission, and report what it warns of; return its name and version."""
    if not os.path.exists(options.api):
        raise Unclear(f"there is no file {options.api!r}")
    if config:
        from taskapi_jupyter.ui.notebooks import check_submission

        check_submission(options.api, config, vars(options))
    result = _deployed(api, Path(options.api), options, {})[0]
    for warning in result.warnings or ():
        tell(f"warning: {warning}")
    assert result.api is not None  # without one, the deploy has raised
    return result.api.spec["name"], result.api.spec.get("id")


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

        def overview(look: Look) -> str:
            jobs = api.jobs(limit=20)
            below = f"\n\n{_jobs_answer(jobs)[1](look)}" if jobs else ""
            return apis_text(apis, **look._asdict()) + below

        return apis, overview
    try:
        one = api.get(options.api)
    except APINotDeployed:
        if found := groups.meant(api, [options.api]):
            return groups.answer(found[0])
        try:
            return _job_answer(_job(api, [options.api]))
        except Unclear:
            pass
        raise
    return [one], lambda look: api_text(one, **look._asdict())


def delete(options: Namespace) -> None:
    """Delete an API and stop its jobs, or stop one job or one group."""
    api = _connect(options)
    job = None if options.job is None else _job(api, [options.job], options.api)
    try:
        message = api.delete(options.api) if job is None else api.stop(job)
    except APINotDeployed:
        found = groups.meant(api, [options.api]) if job is None else []
        if not found:
            raise
        groups.stop(options, found)
        return
    show(options, lambda: done(message, "api " if job is None else ""))


def stop(options: Namespace) -> None:
    """Stop jobs or groups, or all jobs in progress."""
    api = _connect(options)
    if found := groups.meant(api, options.jobs):
        groups.stop(options, found)
    elif options.all:
        if len(options.jobs) > 1:
            raise Unclear("--all takes at most one API")
        stops.stop_all(api, options.jobs[0] if options.jobs else None, lambda said: _said(options, said))
    else:
        stops.stop(api, Resolver(api, {}, None).many(options.jobs), lambda said: _said(options, said))


def _said(options: Namespace, messages: list[str]) -> None:
    message = "\n".join(messages)
    show(options, lambda: done(message))


def rerun(options: Namespace) -> int:
    """Submit the config of a job again, or those of a group."""
    api = _connect(options)
    if found := groups.meant(api, options.jobs):
        group = found[0].rerun(failed=options.failed)
        if options.wait:
            return groups.ended(options, [group], None)
        groups.submitted(options, group)
        return 0
    if options.failed:
        raise Unclear("--failed is for groups")
    job = _job(api, options.jobs).rerun(options.same)
    if options.wait:
        return ended(options, [job], None)
    submitted(options, job)
    return 0


def explain(options: Namespace) -> None:
    """Print the help of a verb, or of all; the parser's own option does."""
    options.parser.parse_args([options.about, "--help"] if options.about else ["--help"])


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
    show(options, lambda: (counts, lambda look: "\n".join(map(clean, words)) or "no jobs"))


def purge(options: Namespace) -> None:
    """Delete jobs that have ended."""
    message = _connect(options).purge(options.api, options.status, options.older_than)
    show(options, lambda: done(message))


def logs(options: Namespace) -> None:
    """Print a job's log, and what comes until it ends."""
    as_json = options.output == "json"
    if options.raw and as_json:
        raise Unclear("--raw prints bytes and can't be combined with -o json")
    api = _connect(options)
    if found := groups.meant(api, options.jobs):
        for line in found[0].log_lines(options.lines, follow=not options.no_follow):
            print(line, flush=True)
        return
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
    """Wait for jobs or groups to end."""
    api = _connect(options)
    if found := groups.meant(api, options.jobs):
        return groups.ended(options, found, options.timeout)
    return ended(options, Resolver(api, {}, None).many(options.jobs), options.timeout)


def attach(options: Namespace) -> None:
    """Say how to work in the kernel that a job keeps."""
    job = _job(_connect(options), options.jobs)
    kernel = job.api.kernel(job)
    show(options, lambda: (kernel, lambda look: kernel_text(job.id, kernel)))


def resume(options: Namespace) -> None:
    """Go on from the cell that failed, or end the kernel that the job keeps."""
    job = _job(_connect(options), options.jobs)
    message = job.end_kernel() if options.end else job.resume()
    show(options, lambda: done(message))


def version(options: Namespace) -> None:
    """Print this program's version, and that of a cluster."""
    found = {"cli_version": __version__}
    if options.env is not None and (of_cluster := _connect(options).cluster_version()):
        found["cluster_version"] = of_cluster
    lines = [f"{what.replace('_', ' ')}: {number}" for what, number in found.items()]
    show(options, lambda: (found, lambda look: "\n".join(map(clean, lines))))


def examine(options: Namespace) -> int:
    """Print what is wrong with this machine's home; return 1 if something is."""
    from taskapi_jupyter.ui import doctor

    home = default_home()
    found, wrong = doctor.facts(home), doctor.problems(home)
    lines = [f"{what}: {value}" for what, value in found.items()] + (wrong or ["no problems found"])
    show(options, lambda: ({**found, "problems": wrong}, lambda look: "\n".join(map(clean, lines))))
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


def ended(options: Namespace, jobs: list[Job], timeout: float | None) -> int:
    """Wait for jobs and show them; return 0 if all succeeded, else 1."""
    jobs = waiting.wait(jobs, timeout)
    show(options, lambda: _job_answer(jobs[0]) if len(jobs) == 1 else _jobs_answer(jobs))
    return 0 if all(job.record.code is JobCode.SUCCEEDED for job in jobs) else 1


def _job_answer(job: Job) -> Answer:
    # A cluster knows jobs by their API; elsewhere a job can be read when its API is deleted.
    return _response_answer(job.api.job_response(job.id, job.api_name))


def _response_answer(response: JobResponse) -> Answer:
    return response, lambda look: job_text(response.job_status, response.endpoint, colour=look.colour)


def _jobs_answer(jobs: list[Job]) -> Answer:
    records: list[JobStatus] = [job.record for job in jobs]
    more, searched = (bool(jobs.next_cursor), jobs.searched) if isinstance(jobs, JobList) else (False, None)
    return records, lambda look: jobs_text(records, more, searched, **look._asdict())


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
