"""The program's arguments: ours, and those of Cortex's program, so that Cortex's Python clients can drive this one."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from taskapi_jupyter._version import __version__
from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.core.states import TERMINAL, JobCode, values
from taskapi_jupyter.deploy.api_spec.quantities import parse_seconds
from taskapi_jupyter.ui.verbs import (
    ALIASES,
    ALL,
    CONFIG,
    END,
    FAILED,
    KERNEL,
    LIMIT,
    NOTEBOOK,
    NOTEBOOK_NAME,
    NOTIFY,
    OF_ATTEMPTS,
    OF_CHAINS,
    OF_GROUPS,
    OF_SCHEDULES,
    PACKAGES,
    PATIENCE,
    PLAN,
    RESOURCES,
    RUN_TIMEOUT,
    SAME,
    SEARCH,
    TIMEOUT,
    VERBS,
    WAIT,
    WARM,
    Option,
)

from . import completion, envs, groups, notifications, outputs, packages, schedules, verbs
from .output import FORMS

_Run = Callable[[argparse.Namespace], int | None]


class _FormOrEndpoint(argparse.Action):
    """``-o`` of ``env configure``: the operator's endpoint, as in Cortex, or the form of the output."""

    def __call__(self, parser: Any, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, "output" if values in FORMS else "operator_endpoint", values)


def parser() -> argparse.ArgumentParser:
    """Return the parser of the whole line; ``run`` of what it returns is the verb's function."""
    parser = argparse.ArgumentParser("jupyter taskapi", description="Deploy task APIs; submit, watch and stop jobs.")
    parser.add_argument("--version", action="version", version=__version__)
    commands = parser.add_subparsers(dest="verb", metavar="VERB", required=True)

    sub = _command(commands, "deploy", verbs.deploy)
    _add(sub, "file", nargs="?", default="cortex.yaml", completer=completion.deployable_files)
    sub.add_argument("--warm", nargs="?", const=True, metavar="MODULES", help=f"{WARM.help}; after FILE")
    _shared(sub, *RESOURCES, KERNEL, *PACKAGES, RUN_TIMEOUT, TIMEOUT, NOTEBOOK_NAME, *NOTEBOOK, PLAN)
    _ignored(sub, "-y", "--yes")
    _ignored(sub, "-f", "--force")

    _add_submit(commands)
    _add_reading(commands)
    _add_outputs(commands)
    _add_kernels(commands)
    _add_jobs(_command(commands, "jobs", verbs.jobs, "list jobs, or delete those that have ended"))
    _add_groups(_command(commands, "groups", groups.listed))
    _add_schedules(_command(commands, "schedule", schedules.listed, aliases=["schedules"]))
    _add_packages(_command(commands, "packages", packages.listed))
    _add_notify(_command(commands, "notify", notifications.listed))
    _add_env(_command(commands, "env", envs.listed, env=False))

    examine = "check this machine's home (settings, disk, database, supervisor); exit 1 if something is wrong"
    _command(commands, "doctor", verbs.examine, examine, env=False)

    sub = _command(commands, "serve", verbs.serve, "run a Jupyter server with this extension alone")
    sub.add_argument("--port", type=_positive)
    sub.add_argument("--ip", default="127.0.0.1", help="the address to listen on (default: 127.0.0.1)")
    sub.add_argument("more", nargs="*", help="more arguments for the server, after --")

    _command(commands, "version", verbs.version, "print this program's version, and with --env that of a cluster")

    sub = _command(commands, "help", verbs.explain, env=False)
    sub.add_argument("about", nargs="?", choices=[*commands.choices], metavar="VERB")
    sub.set_defaults(parser=parser)

    script = "print shell code that completes words with Tab, for a shell's startup file to evaluate"
    sub = _command(commands, "completion", completion.script, script, env=False)
    sub.add_argument("shell", choices=completion.SHELLS)
    return parser


def _add_submit(commands: Any) -> None:
    """Add what starts jobs."""
    sub = _command(commands, "submit", verbs.submit)
    _add(sub, "api", metavar="API|FILE.ipynb", completer=completion.apis_and_notebooks)
    pairs = "configuration: each value a Python literal or JSON if it is one, else text"
    sub.add_argument("pairs", nargs="*", metavar="key=value", help=pairs)
    of_files = (*RESOURCES, KERNEL, *PACKAGES, *NOTEBOOK)
    _shared(sub, CONFIG, RUN_TIMEOUT, TIMEOUT, WAIT, *OF_CHAINS, *OF_GROUPS, *OF_ATTEMPTS, *of_files)
    _add(sub, "--notify", nargs="?", const=True, metavar="NAMES", completer=completion.notifications, help=NOTIFY.help)
    listed = "a group with a job for each config in FILE: JSON lines, a JSON list or CSV with a header; - reads input"
    _add(sub, "--configs", metavar="FILE", completer=completion.files, help=listed)


def _add_reading(commands: Any) -> None:
    """Add what shows, stops and deletes."""
    sub = _command(commands, "get", verbs.get, aliases=["status"])
    _add(sub, "api", nargs="?", completer=completion.apis)
    _add(sub, "job", nargs="?", completer=completion.jobs, help="an id, or its last four or more digits")
    again = "show it again every two seconds: in its place on a terminal, else whenever it has changed"
    sub.add_argument("-w", "--watch", action="store_true", help=again)
    sub.add_argument("--status", choices=[code.value for code in JobCode], help="only jobs in this state")
    _shared(sub, SEARCH, LIMIT)

    sub = _command(commands, "stop", verbs.stop)
    _add(sub, "jobs", nargs="*", metavar="[API] JOB", completer=completion.jobs_and_groups)
    _shared(sub, ALL)

    sub = _command(commands, "delete", verbs.delete)
    _add(sub, "api", completer=completion.apis)
    _add(sub, "job", nargs="?", completer=completion.jobs)
    _ignored(sub, "-f", "--force")
    _ignored(sub, "-c", "--keep-cache")


def _add_outputs(commands: Any) -> None:
    """Add what prints what jobs leave, and waits for it."""
    sub = _command(commands, "logs", verbs.logs)
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.jobs_and_groups)
    begin = "begin with the last LINES lines"
    sub.add_argument("-n", "--lines", "--tail", type=_positive, metavar="LINES", help=begin)
    either = sub.add_mutually_exclusive_group()
    either.add_argument("-f", "--follow", action="store_true", help="print new lines until the job ends (the default)")
    either.add_argument("--no-follow", action="store_true", help="print what there is and exit")
    raw = "print the bytes exactly as the task wrote them, progress bars included"
    sub.add_argument("--raw", action="store_true", help=raw)
    _ignored(sub, "-y", "--yes")

    sub = _command(commands, "wait", verbs.wait)
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.jobs_and_groups)
    _shared(sub, PATIENCE)

    sub = _command(commands, "result", outputs.result)
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.jobs_and_groups)

    text = "list the files that a job left, print one, or save them"
    sub = _command(commands, "files", outputs.files, text)
    _add(sub, "job", metavar="JOB", completer=completion.jobs)
    _add(sub, "path", nargs="?", metavar="PATH", completer=completion.files_of_job, help="one of them, to be printed")
    _add(sub, "-d", "--dir", metavar="FOLDER", completer=completion.files, help="save it, or all, to a folder")

    sub = _command(commands, "rerun", verbs.rerun)
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.jobs_and_groups)
    _shared(sub, SAME, FAILED, WAIT)


def _add_kernels(commands: Any) -> None:
    """Add what can be done with the kernel that a notebook's job keeps."""
    sub = _command(commands, "attach", verbs.attach)
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.apis_and_jobs)

    sub = _command(commands, "resume", verbs.resume)
    _add(sub, "jobs", nargs="+", metavar="[API] JOB", completer=completion.apis_and_jobs)
    _shared(sub, END)


def _add_jobs(parser: argparse.ArgumentParser) -> None:
    """Add the actions on jobs."""
    parser.set_defaults(api=None, status=None, limit=None, search=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str, states: Iterable[JobCode]) -> argparse.ArgumentParser:
        sub = _command(actions, name, run, text, default=argparse.SUPPRESS)
        _add(sub, "api", nargs="?", completer=completion.apis, help="only jobs of this API")
        sub.add_argument("--status", choices=values(states), help="only jobs in this state")
        return sub

    _shared(action("list", verbs.jobs, "list jobs, newest first", JobCode), SEARCH, LIMIT)
    action("count", verbs.count, "count jobs by status", JobCode)

    sub = action("purge", verbs.purge, "delete ended jobs, with their logs, results and files", TERMINAL)
    sub.add_argument("--older-than", type=_days, metavar="DAYS", help="only jobs that ended more than DAYS days ago")


def _add_groups(parser: argparse.ArgumentParser) -> None:
    """Add the actions on groups."""
    parser.set_defaults(limit=None)
    actions = parser.add_subparsers(dest="action", metavar="ACTION")
    text = "list groups, newest first"
    _shared(_command(actions, "list", groups.listed, text, default=argparse.SUPPRESS), LIMIT)
    text = "delete ended groups with their jobs, logs, results and files: these, or all"
    sub = _command(actions, "purge", groups.purge, text, default=argparse.SUPPRESS)
    _add(sub, "groups", nargs="*", metavar="GROUP", completer=completion.groups, help="a name or an id")


def _add_packages(parser: argparse.ArgumentParser) -> None:
    """Add the actions on environments of packages."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str) -> argparse.ArgumentParser:
        return _command(actions, name, run, text, default=argparse.SUPPRESS)

    action("list", packages.listed, "list the environments that were built from requirements, those used last first")
    digits = "an environment's key, or its first digits, four or more"
    sub = action("show", packages.shown, "show one: its Python, requirements and packages, and which APIs need it")
    _add(sub, "key", metavar="KEY", completer=completion.packages, help=digits)
    sub = action("purge", packages.purge, "delete these, or all that no job in progress needs; APIs stay deployed")
    _add(sub, "keys", nargs="*", metavar="KEY", completer=completion.packages, help=digits)
    older = "only environments that were last used more than DAYS days ago"
    sub.add_argument("--older-than", type=_days, metavar="DAYS", help=older)


def _add_schedules(parser: argparse.ArgumentParser) -> None:
    """Add the actions on schedules."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str, *, named: bool = False, env: bool = True) -> argparse.ArgumentParser:
        sub = _command(actions, name, run, text, env=env, default=argparse.SUPPRESS)
        if named:
            _add(sub, "name", metavar="NAME", completer=completion.schedules)
        return sub

    sub = action("add", schedules.add, "submit a job of an API at certain times; a notebook is deployed first")
    _add(sub, "api", metavar="API|FILE.ipynb", completer=completion.apis_and_notebooks)
    when = "when: cron of five fields in quotes, @daily, every 15m, at 2026-12-24T18:00; then key=value: configuration"
    sub.add_argument("words", nargs="*", metavar="WHEN [key=value ...]", help=when)
    of_files = (*RESOURCES, KERNEL, *PACKAGES, *NOTEBOOK)
    _shared(sub, CONFIG, RUN_TIMEOUT, TIMEOUT, *OF_ATTEMPTS, *OF_SCHEDULES, *of_files)

    action("list", schedules.listed, "list schedules, and say whether they survive a reboot of this machine")
    action("show", schedules.shown, "show one", named=True)
    action("pause", schedules.pause, "have one fire no more until it is resumed", named=True)
    action("resume", schedules.resume, "have one fire again", named=True)
    _shared(action("run", schedules.run, "submit a job of one now, also of one that is paused", named=True), WAIT)
    action("delete", schedules.delete, "delete one; its jobs stay", named=True)

    sub = action("next", schedules.following, "show the next times of one, or of cron, @daily or every 15m")
    _add(sub, "words", nargs="+", metavar="NAME|WHEN", completer=completion.schedules)
    sub.add_argument("-n", "--count", type=_positive, metavar="N", help="how many (default: 5)")
    sub.add_argument("--tz", metavar="ZONE", help="the time zone, such as Europe/Berlin; by default the server's")

    text = "print what wakes the schedules of this machine after a reboot: lines of a crontab, or a systemd user timer"
    sub = action("install", schedules.install, text, env=False)
    sub.add_argument("--write", action="store_true", help="write it, too")
    text = "remove what install --write wrote, and nothing else"
    action("uninstall", schedules.uninstall, text, env=False)
    text = "start a supervisor where an active schedule of this machine has none"
    action("wake", schedules.awake, text, env=False)


def _add_notify(parser: argparse.ArgumentParser) -> None:
    """Add the actions on notifications."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str) -> argparse.ArgumentParser:
        return _command(actions, name, run, text, default=argparse.SUPPRESS)

    action("list", notifications.listed, "list the names of config.yaml, where they lead, and what was sent last")
    sub = action("test", notifications.test, "send a test under a name, and print what came back; exit 1 if it failed")
    _add(sub, "name", metavar="NAME", completer=completion.notifications)
    sub = action("deliveries", notifications.deliveries, "list what was sent and what waits, newest first")
    _add(sub, "name", nargs="?", metavar="NAME", completer=completion.notifications)
    _shared(sub, LIMIT)
    sub = action("job", notifications.job, "set whom a job in progress tells when it ends")
    _add(sub, "job", metavar="JOB", completer=completion.jobs)
    names = "names with commas between, or off; without, the browser tells"
    _add(sub, "names", nargs="?", metavar="NAMES", completer=completion.notifications, help=names)


def _add_env(parser: argparse.ArgumentParser) -> None:
    """Add the actions on environments."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION")

    def action(name: str, run: _Run, text: str, short: str = "-o") -> argparse.ArgumentParser:
        return _command(actions, name, run, text, short, env=False, default=argparse.SUPPRESS)

    action("list", envs.listed, "list the environments")

    text = "add an environment, or change the settings given; an empty value ('') removes a setting"
    sub = action("configure", envs.configure, text, "")
    _add(sub, "name", completer=completion.environments)
    sub.add_argument("--operator-endpoint", metavar="URL", help="URL of a Cortex cluster's operator")
    sub.add_argument(
        "-o",
        action=_FormOrEndpoint,
        metavar="URL",
        help="--operator-endpoint, as in Cortex; or table or json",
    )
    sub.add_argument("--provider", choices=("cortex", "ray"))
    sub.add_argument("--address", metavar="URL", help="URL of a Ray cluster's dashboard")
    sub.add_argument("--storage", metavar="URL", help="where jobs of a Ray cluster leave results and files")
    sub.add_argument("--api-endpoint", metavar="URL", help="URL of the cluster's load balancer")
    sub.add_argument("--version", help="the cluster's exact version; by default the cluster is asked")
    sub.add_argument(
        "--header",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="'Name=env:VARIABLE', 'Name=file:PATH', or text with ${VARIABLE} in it; may be given again",
    )
    verify = "whether to verify certificates; FILE: with these certificate authorities"
    _add(sub, "--verify", metavar="true|false|FILE", completer=completion.files, help=verify)
    timeout = "seconds within which an answer must be complete (default: 30)"
    sub.add_argument("--timeout", type=_seconds, metavar="SECONDS", help=timeout)

    _add(action("delete", envs.delete, "remove an environment"), "name", completer=completion.environments)

    sub = action("default", envs.default, "print the default environment, or choose it")
    _add(sub, "name", nargs="?", completer=completion.environments)


def _command(
    commands: Any,
    name: str,
    run: _Run,
    text: str = "",
    short: str = "-o",
    *,
    env: bool = True,
    default: str | None = None,
    aliases: Sequence[str] = (),
) -> argparse.ArgumentParser:
    """Add a verb, or an action of one, with the options that all have.

    Without a ``text``, its help is that of the magic's verb. An action has ``argparse.SUPPRESS`` as its ``default``:
    another one would replace what stands before the action.
    """
    if not text:
        verb = VERBS[ALIASES.get(name, name)]
        text = verb.terminal or verb.help
    about = f"{text[0].upper()}{text[1:]}."
    sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=about, aliases=aliases)
    sub.set_defaults(run=run)
    if env:
        which = "the environment (default: the default one)"
        _add(sub, "-e", "--env", default=default, completer=completion.environments, help=which)
    names = [short, "--output"] if short else ["--output"]
    sub.add_argument(
        *names, choices=FORMS, default=default or "table", metavar="FORM", help="table, wide (cuts nothing) or json"
    )
    return sub


_COMPLETERS = {
    "--kernel": completion.kernels,
    "--requirements": completion.requirements,
    "--after": completion.jobs_and_groups,
}


def _shared(parser: argparse.ArgumentParser, *options: Option) -> None:
    """Add options that the magics have, too."""
    readers: dict[str, Any] = {"int": _positive, "number": _number, "time": _time, "pair": _pair, "input": _pair}
    for one in options:
        if one.kind == "flag":
            parser.add_argument(one.name, action="store_true", help=one.help)
        else:
            action = "append" if one.kind in ("pair", "texts", "jobs", "input") else "store"
            completer = _COMPLETERS.get(one.name)
            reader = readers.get(one.kind, str)
            _add(parser, one.name, action=action, type=reader, metavar=one.metavar, help=one.help, completer=completer)


def _ignored(parser: argparse.ArgumentParser, *names: str) -> None:
    parser.add_argument(*names, action="store_true", help="accepted for Cortex compatibility; no effect")


def _add(parser: argparse.ArgumentParser, *names: str, completer: Any, **options: Any) -> None:
    """Add an argument with its completer."""
    vars(parser.add_argument(*names, **options))["completer"] = completer


def _positive(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) > 0):
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number above 0")
    return int(text)


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise argparse.ArgumentTypeError(f"write NAME=VALUE, not {text[:40]!r}")
    return name, value


def _number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a whole number") from None


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
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of days")
    return days


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= 86_400:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a number of seconds above 0, up to a day")
    return seconds
