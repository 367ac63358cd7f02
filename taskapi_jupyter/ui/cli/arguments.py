"""The program's arguments: ours, and those that Cortex's own program and the clients that drive it have."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.states import TERMINAL, JobCode, values
from taskapi_jupyter.deploy.api_spec.quantities import parse_seconds

from . import completion, envs, verbs
from .output import FORMS

_Run = Callable[[argparse.Namespace], int | None]


class _FormOrEndpoint(argparse.Action):
    """``-o`` of ``env configure``: the operator's endpoint, as Cortex has it, or how to answer."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, "output" if values in FORMS else "operator_endpoint", values)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole line; ``run`` of what it returns is the verb's function."""
    parser = argparse.ArgumentParser("jupyter taskapi", description="Deploy task APIs, submit jobs, look after them.")
    parser.add_argument("--version", action="version", version=__version__)
    verbs_ = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    def verb(name: str, run: _Run, text: str, *, env: bool = True) -> argparse.ArgumentParser:
        sub = verbs_.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        if env:
            _add(
                sub, "-e", "--env", completer=completion.environments, help="the environment (default: the default one)"
            )
        sub.add_argument("-o", "--output", choices=FORMS, default="table", metavar="FORM", help="table or json")
        return sub

    sub = verb("deploy", verbs.deploy, "deploy the APIs of a configuration file")
    _add(sub, "file", nargs="?", default="cortex.yaml", completer=completion.yaml_files)
    sub.add_argument("-y", "--yes", action="store_true", help="taken, as Cortex's; nothing is asked")
    sub.add_argument("-f", "--force", action="store_true", help="taken, as Cortex's; a deploy never waits")

    sub = verb("submit", verbs.submit, "start a job")
    _add(sub, "api", completer=completion.apis)
    sub.add_argument(
        "pairs",
        nargs="*",
        metavar="key=value",
        help="configuration; a Python literal or JSON where it parses, else text",
    )
    sub.add_argument("--config", metavar="JSON")
    sub.add_argument(
        "--run-timeout", type=_time, metavar="TIME", help="of running, counted from its start: 90, 90s, 15m or 1h30m"
    )
    sub.add_argument("--timeout", type=_time, metavar="TIME", help="counted from now, the wait in line included")
    sub.add_argument("--wait", action="store_true", help="wait for its end; exit 1 unless it succeeded")

    sub = verb("get", verbs.get, "show all APIs and jobs, one API with its jobs, or one job")
    _add(sub, "api", nargs="?", completer=completion.apis)
    _add(sub, "job", nargs="?", completer=completion.jobs, help="an id, or its last four or more digits")
    sub.add_argument("-w", "--watch", action="store_true", help="again every two seconds")
    sub.add_argument("--status", choices=[code.value for code in JobCode])
    sub.add_argument("--limit", type=_positive)

    sub = verb("delete", verbs.delete, "delete an API and stop its jobs, or stop one job")
    _add(sub, "api", completer=completion.apis)
    _add(sub, "job", nargs="?", completer=completion.jobs)
    sub.add_argument("-f", "--force", action="store_true", help="taken, as Cortex's; nothing is asked")
    sub.add_argument("-c", "--keep-cache", action="store_true", help="taken, as Cortex's; ended jobs are kept")

    sub = verb("logs", verbs.logs, "print a job's log, and what comes until it ends")
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.apis_and_jobs)
    sub.add_argument("-n", "--lines", type=_positive, help="the last ones only")
    sub.add_argument("--no-follow", action="store_true", help="print what there is")
    sub.add_argument(
        "--raw", action="store_true", help="the bytes as the task wrote them; else a pipe gets bars as lines"
    )
    sub.add_argument("-y", "--yes", action="store_true", help="taken, as Cortex's; nothing is asked")

    sub = verb("wait", verbs.wait, "wait for jobs to end; exit 1 unless all succeeded")
    _add(sub, "jobs", nargs="+", metavar="JOB", completer=completion.jobs)
    sub.add_argument("--timeout", type=_time, metavar="TIME", help="of waiting, such as 15m; the jobs run on")

    _add_jobs(verb("jobs", verbs.jobs, "list jobs, or purge those that have ended"))

    _add_env(verb("env", envs.listed, "list the environments, or change them", env=False))

    verb(
        "doctor",
        verbs.examine,
        "say what is wrong with the home of this machine's jobs; exit 1 if anything is",
        env=False,
    )

    _add_server(verb("serve", verbs.serve, "run a Jupyter server with this extension alone"))

    verb("version", verbs.version, "print this program's version, and with --env that of a cluster")

    sub = verb(
        "completion", completion.script, "print what a shell's startup file evaluates to complete words", env=False
    )
    sub.add_argument("shell", choices=completion.SHELLS)
    return parser


def _add_server(parser: argparse.ArgumentParser) -> None:
    """Add what a server takes."""
    parser.add_argument("--port", type=_positive)
    parser.add_argument("--ip", default="127.0.0.1")
    parser.add_argument("more", nargs="*", help="more arguments for the server, behind --")


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the actions on jobs."""
    parser.set_defaults(api=None, status=None, limit=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str, states: Iterable[JobCode]) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        _add(sub, "api", nargs="?", completer=completion.apis, help="only jobs of this API")
        sub.add_argument("--status", choices=values(states), help="only jobs in this state")
        # Without defaults, which would take the place of what stands before the action.
        _add(sub, "-e", "--env", default=argparse.SUPPRESS, completer=completion.environments, help="the environment")
        sub.add_argument(
            *("-o", "--output"), choices=FORMS, default=argparse.SUPPRESS, metavar="FORM", help="table or json"
        )
        return sub

    sub = action("list", verbs.jobs, "list jobs, newest first", JobCode)
    sub.add_argument("--limit", type=_positive)

    sub = action("purge", verbs.purge, "delete ended jobs, with their logs, results and files", TERMINAL)
    sub.add_argument("--older-than", type=_days, metavar="DAYS", help="only those that ended so many days ago")


def _add_env(parser: argparse.ArgumentParser) -> None:
    """Add the actions on environments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str, *short: str) -> argparse.ArgumentParser:
        sub = actions.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        # Without a default, which would take the place of what stands before the action.
        sub.add_argument(
            *short, "--output", choices=FORMS, default=argparse.SUPPRESS, metavar="FORM", help="table or json"
        )
        return sub

    action("list", envs.listed, "list the environments", "-o")

    sub = action("configure", envs.configure, "add an environment, or change of one what is given; '' takes away")
    _add(sub, "name", completer=completion.environments)
    sub.add_argument("--operator-endpoint", metavar="URL", help="of the cluster's operator")
    sub.add_argument("-o", action=_FormOrEndpoint, metavar="URL", help="the same, as Cortex's; or table or json")
    sub.add_argument("--provider", choices=("cortex", "ray"))
    sub.add_argument("--address", metavar="URL", help="of a Ray cluster's dashboard")
    sub.add_argument("--storage", metavar="URL", help="where jobs of a Ray cluster leave results and files")
    sub.add_argument("--api-endpoint", metavar="URL", help="of the cluster's load balancer")
    sub.add_argument("--version", help="of the cluster, exactly; it is asked where this is not given")
    sub.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="'Name=env:VARIABLE', 'Name=file:PATH', or text with ${VARIABLE} in it; may be given again",
    )
    _add(
        sub,
        "--verify",
        metavar="true|false|FILE",
        completer=completion.files,
        help="of certificates; FILE: authorities",
    )
    sub.add_argument("--timeout", type=_seconds, metavar="SECONDS", help="for an answer to be complete (30)")

    sub = action("delete", envs.delete, "take an environment away", "-o")
    _add(sub, "name", completer=completion.environments)

    sub = action("default", envs.default, "print the default environment, or choose it", "-o")
    _add(sub, "name", nargs="?", completer=completion.environments)


def _add(parser: argparse.ArgumentParser, *names: str, completer: Any, **options: Any) -> None:
    """Add an argument with what completes it."""
    vars(parser.add_argument(*names, **options))["completer"] = completer


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number above 0")
    return int(text)


def _time(text: str) -> int:
    try:
        return parse_seconds(text, "it")
    except BadRequest as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _days(text: str) -> float:
    try:
        days = float(text)
    except ValueError:
        days = -1
    if not 0 <= days <= 36_525:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of days")
    return days


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is no number of seconds up to a day")
    return seconds
