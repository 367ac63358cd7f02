"""``jupyter taskapi``: the verbs for a terminal, with the arguments of Cortex's own program where it has the verb."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from . import deployment, environments
from ._version import __version__
from .contract import TaskAPI
from .display import api_text, apis_text, clean, deploy_text, environments_text, job_text, jobs_text
from .errors import APINotDeployed, TaskAPIError
from .jobs import Job
from .references import Resolver, Unclear
from .states import JobCode

Answer = tuple[Any, str]  # what `-o json` prints, and what people read

USAGE = 2
INTERRUPTED = 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return 0 for success, 1 for failure, 2 for a line that can't be understood."""
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `… | head` ends it quietly
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        return int(options.run(options) or 0)
    except Unclear as error:
        return _complain(str(error), USAGE)
    except (TaskAPIError, TimeoutError) as error:
        return _complain(str(error), 1)
    except KeyboardInterrupt:
        return _complain("interrupted; jobs run on", INTERRUPTED)


def _complain(message: str, code: int) -> int:
    print("jupyter taskapi: " + " ".join(clean(line) for line in message.splitlines()), file=sys.stderr)
    return code


def _connect(options: argparse.Namespace) -> TaskAPI:
    return environments.connect(options.env)


def _show(options: argparse.Namespace, look: Callable[[], Answer]) -> None:
    """Print an answer; with ``--watch`` again and again, until interrupted."""
    watched = getattr(options, "watch", False)
    while True:
        value, text = look()
        if options.output == "json":
            print(json.dumps(msgspec.to_builtins(value), ensure_ascii=False))
        else:
            if watched and sys.stdout.isatty():
                print("\x1b[H\x1b[2J", end="")
            print(text)
        if not watched:
            return
        sys.stdout.flush()
        time.sleep(2)


# Verbs


def _deploy(options: argparse.Namespace) -> int:
    path = Path(options.file)
    if not path.exists():
        raise Unclear(f"there is no file {options.file!r}")
    results = _connect(options).deploy(path)
    unmet = deployment.requirement_warnings(path if path.is_dir() else path.parent)
    _show(options, lambda: (results, deploy_text(results, unmet)))
    return 1 if any(result.error for result in results) else 0


def _submit(options: argparse.Namespace) -> int:
    config = _object(options.config) if options.config is not None else {}
    for pair in options.pairs:
        key, equals, text = pair.partition("=")
        if not key or not equals:
            raise Unclear(f"configuration is written key=value, not {pair!r}")
        config[key] = _value(text)
    job = _connect(options).submit(options.api, config or None, options.timeout)
    if options.wait:
        return _ended(options, [job])
    _show(options, lambda: (job.api.job_response(job.id), job_text(job.record, job.endpoint)))
    return 0


def _get(options: argparse.Namespace) -> None:
    api = _connect(options)

    def look() -> Answer:
        if options.job is not None:
            return _job_answer(_resolve(api, [options.api, options.job])[0])
        if options.status is not None or options.limit is not None:
            jobs = api.jobs(options.api, options.status, options.limit or 50)
            return [job.record for job in jobs], jobs_text([job.record for job in jobs], bool(jobs.next_cursor))
        if options.api is None:
            apis, jobs = api.get(), api.jobs(limit=20)
            text = f"{apis_text(apis)}\n\n{jobs_text([job.record for job in jobs], bool(jobs.next_cursor))}"
            return apis, text if jobs else apis_text(apis)
        try:
            one = api.get(options.api)
        except APINotDeployed:
            try:
                return _job_answer(_resolve(api, [options.api])[0])
            except Unclear:
                pass
            raise
        return [one], api_text(one)

    _show(options, look)


def _job_answer(job: Job) -> Answer:
    response = job.api.job_response(job.id)
    return response, job_text(response.job_status, response.endpoint)


def _delete(options: argparse.Namespace) -> None:
    api = _connect(options)
    jobs = [] if options.job is None else _resolve(api, [options.api, options.job])
    message = "\n".join(map(api.stop, jobs)) or api.delete(options.api)
    _show(options, lambda: ({"message": message}, message))


def _logs(options: argparse.Namespace) -> None:
    api = _connect(options)
    job = _resolve(api, options.jobs)[0]
    if options.no_follow:
        sys.stdout.write(api.logs(job, options.lines))
        return
    for line in api.logs(job, options.lines, follow=True):
        sys.stdout.write(line if line.endswith("\n") else f"{line}\n")
        sys.stdout.flush()


def _wait(options: argparse.Namespace) -> int:
    return _ended(options, _resolve(_connect(options), options.jobs))


def _ended(options: argparse.Namespace, jobs: list[Job]) -> int:
    """Wait for jobs, show them, and say by the exit code whether all succeeded."""
    for job in jobs:
        job.wait(options.timeout if options.verb == "wait" else None)
    if len(jobs) == 1:
        _show(options, lambda: _job_answer(jobs[0]))
    else:
        _show(options, lambda: ([job.record for job in jobs], jobs_text([job.record for job in jobs])))
    return 0 if all(job.record.code is JobCode.SUCCEEDED for job in jobs) else 1


def _env(options: argparse.Namespace) -> None:
    there = environments.environments()
    _show(options, lambda: (there, environments_text(there.environments, there.default_environment)))


def _serve(options: argparse.Namespace) -> int:
    """Become a plain Jupyter server with this extension alone."""
    command = [sys.executable, "-m", "jupyter_server", "--no-browser", f"--ServerApp.ip={options.ip}"]
    command.append("--ServerApp.jpserver_extensions=taskapi_jupyter=True")
    if options.port is not None:
        command.append(f"--ServerApp.port={options.port}")
    sys.stdout.flush()
    # Without this, the extensions that are enabled in this installation come along.
    os.execve(command[0], command + options.more, {**os.environ, "JUPYTER_NO_CONFIG": "1"})  # noqa: S606


# Words


def _resolve(api: TaskAPI, words: list[str]) -> list[Job]:
    return Resolver(api, {}, None).many(words)


def _value(text: str) -> Any:
    """Return JSON where a text parses as it, else the text."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return text


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # NaN and infinities are no JSON


def _object(text: str) -> dict[str, Any]:
    value = _value(text)
    if not isinstance(value, dict):
        raise Unclear(f"--config is a JSON object, not {text[:60]!r}")
    return value


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number above 0")
    return int(text)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("jupyter taskapi", description="Deploy task APIs, submit jobs, look after them.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int | None], text: str) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        sub.add_argument("-e", "--env", help="the environment (default: the default one)")
        sub.add_argument("-o", "--output", choices=("table", "json"), default="table", help="how to answer")
        return sub

    sub = verb("deploy", _deploy, "deploy the APIs of a configuration file")
    sub.add_argument("file", nargs="?", default="cortex.yaml")
    sub.add_argument("-y", "--yes", action="store_true", help="taken, as Cortex's; nothing is asked")
    sub.add_argument("-f", "--force", action="store_true", help="taken, as Cortex's; a deploy never waits")

    sub = verb("submit", _submit, "start a job")
    sub.add_argument("api")
    sub.add_argument("pairs", nargs="*", metavar="key=value", help="configuration; JSON where it parses, else text")
    sub.add_argument("--config", metavar="JSON")
    sub.add_argument("--timeout", type=_positive, metavar="SECONDS", help="counted from now")
    sub.add_argument("--wait", action="store_true", help="wait for its end; exit 1 unless it succeeded")

    sub = verb("get", _get, "show all APIs and jobs, one API with its jobs, or one job")
    sub.add_argument("api", nargs="?")
    sub.add_argument("job", nargs="?", help="an id, or its last four or more digits")
    sub.add_argument("-w", "--watch", action="store_true", help="again every two seconds")
    sub.add_argument("--status", choices=[code.value for code in JobCode])
    sub.add_argument("--limit", type=_positive)

    sub = verb("delete", _delete, "delete an API and stop its jobs, or stop one job")
    sub.add_argument("api")
    sub.add_argument("job", nargs="?")
    sub.add_argument("-f", "--force", action="store_true", help="taken, as Cortex's; nothing is asked")
    sub.add_argument("-c", "--keep-cache", action="store_true", help="taken, as Cortex's; ended jobs are kept")

    sub = verb("logs", _logs, "print a job's log, and what comes until it ends")
    sub.add_argument("jobs", nargs="+", metavar="[API] JOB")
    sub.add_argument("-n", "--lines", type=_positive, help="the last ones only")
    sub.add_argument("--no-follow", action="store_true", help="print what there is")

    sub = verb("wait", _wait, "wait for jobs to end; exit 1 unless all succeeded")
    sub.add_argument("jobs", nargs="+", metavar="JOB")
    sub.add_argument("--timeout", type=_positive, metavar="SECONDS", help="of waiting; the jobs run on")

    sub = verb("env", _env, "list the environments")
    sub.add_argument("action", choices=("list",), nargs="?", default="list")

    sub = verb("serve", _serve, "run a Jupyter server with this extension alone")
    sub.add_argument("--port", type=_positive)
    sub.add_argument("--ip", default="127.0.0.1")
    sub.add_argument("more", nargs="*", help="more arguments for the server, behind --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
