"""The verbs of ``%taskapi`` with their options and help, of which the terminal's parser takes what it shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.packages import AUTO, NONE


@dataclass(frozen=True)
class Option:
    """``kind`` is what follows it: nothing, text (``maybe``: or nothing; ``texts``: repeatable), a variable, a whole
    number (``int``: from 0 on), a time, JSON, KEY=VALUE (repeatable), jobs and groups with commas between them
    (repeatable), or KEY=JOB (``input``, repeatable).
    """

    name: str
    kind: Literal["flag", "text", "texts", "maybe", "name", "int", "number", "time", "json", "pair", "jobs", "input"]
    help: str
    metavar: str = ""
    short: str = ""

    @property
    def key(self) -> str:
        """The name without its dashes, as a Python name."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def shown(self) -> str:
        """The option as help shows it."""
        names = f"{self.short}, {self.name}" if self.short else self.name
        return f"{names} {self.metavar}".rstrip()


@dataclass(frozen=True)
class Verb:
    """With ``pairs``, KEY=VALUE is configuration; with ``cell``, ``%%taskapi`` takes the verb, too.

    ``cell_options`` are those above a cell alone, ``notebook_options`` those of a line that names a notebook's file.
    """

    name: str
    usage: tuple[str, ...]
    help: str
    terminal: str = ""  # what help says in a terminal, where that differs
    options: tuple[Option, ...] = ()
    cell_options: tuple[Option, ...] = ()
    notebook_options: tuple[Option, ...] = ()
    pairs: bool = False
    cell: bool = False

    @property
    def takes_job(self) -> bool:
        """Whether it takes a job, as a word and not only as an option's value."""
        return any("JOB" in usage.partition(" --after ")[0] for usage in self.usage)

    @property
    def every_option(self) -> tuple[Option, ...]:
        """Return the options that it takes in one place or another."""
        return tuple(dict.fromkeys((*self.options, *self.cell_options, *self.notebook_options)))

    def taken(self, cell: bool, notebook: bool = True) -> tuple[Option, ...]:
        """Return the options that it takes above a cell, or as a line that may name a notebook's file."""
        more = self.cell_options if cell else self.notebook_options if notebook else ()
        return self.options + more


CONFIG = Option("--config", "json", "configuration: a JSON object or a dict of Python", "JSON")
WAIT = Option("--wait", "flag", "waits for the end; fails unless the job succeeds")
TIMEOUT = Option("--timeout", "time", "the same, counted from submission, the time in the queue included", "T")
LIMIT = Option("--limit", "int", "how many jobs at most", "N")
SEARCH = Option("--search", "text", "only jobs in which each of these words occurs", "WORDS")
PATIENCE = Option("--timeout", "time", "gives up waiting after so long, such as 15m; the job goes on", "T")
RUN_TIMEOUT = Option("--run-timeout", "time", "stops a job that has run this long: 90 (seconds), 15m or 1h30m", "T")
WARM = Option(
    "--warm",
    "maybe",
    "starts jobs from a process that has imported these modules (a,b), or what the task imports",
    "[MODULES]",
)
NOTEBOOK_NAME = Option("--name", "text", "of a notebook's API; by default it is made from the file's name", "NAME")
KERNEL = Option("--kernel", "text", "the kernel whose Python runs the task, or that runs a notebook's cells", "NAME")
PLAN = Option("--dry-run", "flag", "shows what would be deployed and what would run it, and deploys nothing")
NOTEBOOK = (
    Option("--keep-kernel", "time", "keeps a notebook's kernel for so long where a cell fails, such as 30m", "T"),
    Option("--cell-timeout", "time", "ends a notebook's job where a cell has run this long", "T"),
    Option("--html", "flag", "saves a notebook as HTML, too"),
    Option("--allow-unknown", "flag", "accepts parameters that a notebook does not assign"),
)
END = Option("--end", "flag", "ends the kernel instead, and with it the job")
OF_GROUPS = (
    Option("--sweep", "flag", "a job for each combination of the lists in the configuration, as one group"),
    Option("--zip", "flag", "the same, but pairs lists of one length"),
    Option("--repeat", "int", "runs each N times, with repeat=0, 1, ... in the configuration", "N"),
    Option("--max-running", "int", "how many jobs of the group may run at the same time", "N"),
    Option("--name", "text", "a name for the group; with a notebook's file, for its API", "NAME"),
    Option("--dry-run", "flag", "shows the table of jobs, and submits none"),
)
OF_ATTEMPTS = (
    Option("--retries", "int", "tries a job that failed again, N times at most", "N"),
    Option("--retry-on", "text", "only after these states, such as worker_oom,timed_out", "STATES"),
    Option(
        "--retry-delay", "time", "waits so long before the second attempt, twice as long before each later one", "S"
    ),
    Option("--priority", "number", "pending jobs of a higher one start first; 0, in a group -1", "N"),
)
NOTIFY = Option(
    "--notify",
    "maybe",
    "has these notifications of config.yaml (a,b) sent when it ends, off: none; without names, the browser tells",
    "[NAMES]",
)
OF_SCHEDULES = (
    Option("--tz", "text", "the time zone, such as Europe/Berlin; by default the server's", "ZONE"),
    Option("--name", "text", "a name for the schedule; by default that of its API", "NAME"),
    Option("--overlap", "text", "where the last job has not ended: skip (the default), queue, stop or allow", "HOW"),
    Option("--catch-up", "text", "makes up for the newest firing that was missed: last (the default) or none", "HOW"),
    Option("--max-late", "time", "only if it is not later than this, such as 1h; by default a period, at most 1d", "T"),
    Option("--until", "text", "a date or a time after which it never fires", "DATE"),
    Option("--keep", "int", "how many ended jobs of it are kept", "N"),
    Option("--notify", "text", "notifications of config.yaml that are sent when a job ends: a,b", "NAMES"),
    Option("--pin", "flag", "runs the version that is deployed now, also after the API is deployed again"),
    Option("--replace", "flag", "replaces a schedule of that name"),
)
ACTIONS = (
    Option("--pause", "flag", "has it fire no more until it is resumed"),
    Option("--resume", "flag", "has it fire again"),
    Option("--run", "flag", "submits a job of it now"),
    Option("--delete", "flag", "deletes it; its jobs stay"),
)
NEXT = Option("--next", "int", "shows the next N times; with a schedule that is not made yet, makes none", "N")
OF_CHAINS = (
    Option("--after", "jobs", "starts it once these jobs and groups have succeeded; may be given again", "JOB[,JOB]"),
    Option("--after-any", "flag", "starts it once those have ended, however they did"),
    Option("--result", "input", "a key of the configuration that gets a job's result; may be given again", "KEY=JOB"),
)
ALL = Option("--all", "flag", "every job in progress")
SAME = Option("--same", "flag", "runs the version that the job ran, not the one that is deployed now")
FAILED = Option("--failed", "flag", "of a group: only the jobs that did not succeed")
RESOURCES = (
    Option("--cpu", "text", "cores that each job needs, such as 2 or 500m", "N"),
    Option("--mem", "text", "memory that each job may use, such as 512Mi or 4Gi", "SIZE"),
    Option("--gpu", "int", "GPUs that each job needs", "N"),
    Option("--env-var", "pair", "an environment variable for its jobs", "K=V"),
)
PACKAGES = (
    Option("--with", "texts", "a package for its jobs, such as numpy or 'pandas<3'; may be given again", "PKG"),
    Option(
        "--requirements",
        "text",
        "packages for its jobs: a requirements file, auto (the project's: uv.lock, pylock.toml or requirements.txt)"
        " or none",
        "FILE",
    ),
    Option("--python-version", "text", "the version of Python that these packages are for, such as 3.12", "X.Y"),
    Option("--upgrade", "flag", "looks for newer versions of these packages"),
    Option("--no-script-metadata", "flag", "ignores a block # /// script of the task, which names packages"),
)
NEEDS = (*RESOURCES, WARM)


def names_to_notify(given: str | bool) -> list[str]:
    """Return the names that an option ``--notify`` or a word gives: the browser's, none, or some of config.yaml."""
    if given is True or given == "":
        return ["browser"]
    return [] if given == "off" else [name.strip() for name in str(given).split(",") if name.strip()]


def notebook_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of a notebook that were given, as ``deploy()`` takes them."""
    found = {one.key: value for one in (NOTEBOOK_NAME, *NOTEBOOK) if (value := given.get(one.key)) not in (None, False)}
    if found.pop("html", None):
        found["outputs"] = ["html"]
    return found


def packages_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options of packages that were given, as ``deploy()`` takes them."""
    found = {key: value for key in ("requirements", "python_version", "upgrade") if (value := given.get(key))}
    if given.get("no_script_metadata"):
        found["script_metadata"] = False
    if more := given.get("with"):
        file = found.get("requirements", NONE)
        if file == AUTO:
            raise BadRequest("--with goes with --requirements FILE: instead of auto, name the file")
        found["requirements"] = [*([f"-r {file}"] if file != NONE else []), *more]
    return found


_ALL = (
    Verb(
        "deploy",
        (
            "%%taskapi deploy NAME [--cpu N] [--mem SIZE] [--gpu N] [--run-timeout T] [--timeout T]"
            " [--env-var K=V] [--config JSON] [--kernel NAME] [--warm [MODULES]] [--with PKG] [--requirements FILE]"
            " [--dry-run]",
            "%taskapi deploy FILE.yaml",
            "%taskapi deploy FILE.ipynb [--name NAME] [--kernel NAME] [--keep-kernel T] [--html]",
            "%taskapi deploy NAME --function FN",
        ),
        "make a task API from a cell, a configuration file, a whole notebook, or a function or class of this one",
        "deploy the APIs of a configuration file, or a notebook",
        (
            *NEEDS,
            KERNEL,
            *PACKAGES,
            RUN_TIMEOUT,
            TIMEOUT,
            CONFIG,
            Option("--function", "name", "a callable of the notebook", "FN"),
            PLAN,
        ),
        notebook_options=(NOTEBOOK_NAME, *NOTEBOOK),
        cell=True,
    ),
    Verb(
        "submit",
        (
            "%taskapi submit API [key=value ...] [--config JSON|$var] [--run-timeout T] [--timeout T] [--wait]",
            "%taskapi submit FILE.ipynb [key=value ...] [--name NAME] [--kernel NAME] [--keep-kernel T] [--html]",
            "%%taskapi submit NAME [key=value ...]",
            "%taskapi submit API key=[a,b] ... --sweep|--zip [--repeat N] [--max-running N] [--name NAME] [--dry-run]",
            "%taskapi submit API [key=$job ...] --after JOB[,JOB] [--after-any] [--result KEY=JOB]",
        ),
        "start a job, or a group of jobs; a notebook's file, or the cell below, is deployed first",
        "start a job, or a group of jobs; a notebook is deployed first",
        (CONFIG, RUN_TIMEOUT, TIMEOUT, WAIT, *OF_CHAINS, *OF_GROUPS, *OF_ATTEMPTS, NOTIFY),
        (*NEEDS, KERNEL, *PACKAGES),
        (*RESOURCES, KERNEL, *PACKAGES, *NOTEBOOK),
        pairs=True,
        cell=True,
    ),
    Verb(
        "status",
        ("%taskapi status [API] [JOB] [--status S] [--search WORDS] [--limit N] [--watch]",),
        "show APIs and jobs, one API with its jobs, or one job or group",
        options=(
            Option("--status", "text", "only jobs in this state, or in one of several: a,b", "S"),
            SEARCH,
            LIMIT,
            Option("--watch", "flag", "keeps showing until nothing is in progress", short="-w"),
        ),
    ),
    Verb(
        "stop",
        ("%taskapi stop JOB...", "%taskapi stop [API] --all"),
        "stop jobs or groups; stopping a job again kills it without waiting for its cleanup",
        options=(ALL,),
    ),
    Verb(
        "delete",
        ("%taskapi delete API", "%taskapi delete API JOB"),
        "delete an API and stop its jobs; with a job, stop only that",
        "delete an API and stop its jobs, or stop one job or one group",
    ),
    Verb(
        "groups",
        ("%taskapi groups [--limit N]",),
        "list groups of jobs, newest first",
        "list groups of jobs, or delete those that have ended",
        (LIMIT,),
    ),
    Verb(
        "schedule",
        (
            '%taskapi schedule API "0 6 * * MON-FRI" [key=value ...] [--tz ZONE] [--name NAME]'
            " [--overlap HOW] [--catch-up HOW] [--max-late T] [--until DATE] [--keep N] [--notify NAMES] [--pin]"
            " [--replace]",
            "%taskapi schedule API every 15m|@daily|at 2026-12-24T18:00 [key=value ...]",
            '%taskapi schedule FILE.ipynb "0 6 * * MON-FRI" [key=value ...]',
            "%taskapi schedule NAME [--pause|--resume|--run [--wait]|--delete|--next N]",
        ),
        "submit jobs of an API at certain times, or show, pause, resume, run or delete such a schedule; a notebook's"
        " file is deployed first",
        "make, list, show, pause, resume, run or delete schedules, which submit jobs at certain times",
        (CONFIG, RUN_TIMEOUT, TIMEOUT, *OF_ATTEMPTS, *OF_SCHEDULES, *ACTIONS, NEXT, WAIT),
        notebook_options=(*RESOURCES, KERNEL, *PACKAGES, *NOTEBOOK),
        pairs=True,
    ),
    Verb("schedules", ("%taskapi schedules",), "list schedules, by name"),
    Verb(
        "logs",
        ("%taskapi logs JOB [-n LINES] [-f]",),
        "print what a job wrote, the newest MiB of it; a progress bar in its last state",
        "print a job's log, and new lines until the job ends",
        (
            Option("--tail", "int", "only the last lines", "LINES", "-n"),
            Option(
                "--follow",
                "flag",
                "prints new lines until the job ends; a line says what was left out",
                short="-f",
            ),
        ),
    ),
    Verb(
        "wait",
        ("%taskapi wait JOB... [--timeout T]",),
        "wait for jobs or groups to end; an error unless all succeeded",
        "wait for jobs or groups to end; exit 1 unless all succeeded",
        (PATIENCE,),
    ),
    Verb(
        "result",
        ("%taskapi result JOB",),
        "wait, then return what the task returned",
        "wait, then print what the task returned",
    ),
    Verb(
        "rerun",
        ("%taskapi rerun JOB [--same] [--wait]", "%taskapi rerun GROUP [--failed] [--wait]"),
        "submit a job's configuration again, to the API as it is deployed now",
        options=(SAME, FAILED, WAIT),
    ),
    Verb(
        "notify",
        ("%taskapi notify JOB [NAMES|off]", "%taskapi notify"),
        "set who is told when a job in progress ends: names of config.yaml (a,b), or the browser; without a job, "
        "list these names and what was sent",
        "list who is told of jobs and what was sent, send a test, or set whom a job in progress tells",
    ),
    Verb("attach", ("%taskapi attach JOB",), "say how to work in the kernel that a job keeps after a cell failed"),
    Verb(
        "resume",
        ("%taskapi resume JOB [--end]",),
        "go on from the cell that failed, in the kernel that a job keeps",
        options=(END,),
    ),
    Verb(
        "packages",
        ("%taskapi packages [KEY]",),
        "list the environments that were built from requirements, or show one; KEY may be its first digits",
        "list the environments that were built from requirements, show one, or delete those that no job needs",
    ),
    Verb("panel", ("%taskapi panel [API]",), "show jobs live, with a form to submit and buttons to stop"),
    Verb(
        "env",
        ("%taskapi env [NAME]",),
        "list environments, or choose the one that this kernel uses",
        "list the environments, or change them",
    ),
    Verb("help", ("%taskapi help [VERB]",), "explain a verb, or list all"),
)

VERBS = {verb.name: verb for verb in _ALL}
ALIASES = {"get": "status"}

_JOB = """
JOB is a variable that holds a job, `last` (the newest job that no other notebook submitted), an id, or
the last four or more digits of an id. Cortex's order, API JOB, works too. A group stands wherever a job does:
a variable that holds one, its name, its id, or g and the last digits of its id."""

_TASK = """
The task is the class Task; else the one function with a parameter config; else the function with the API's
name; else the only function whose name doesn't begin with _. Other parameters are filled from the config."""

_VALUES = """
A value is a Python literal (0.1, 1_000, True, None, [1, 'a'], {'a': 1}; a tuple becomes a list) or JSON
(true, null); anything else is text. Quoted text is text, as in Python: '5', 'two words', r'\\d+'. Around a
list, a dict or quoted text, quotes are dropped as in a shell: '[1, 2]' is a list and '"5"' the text 5.
NaN and infinities are refused, because JSON has none.
$name, ${name} and {name} are the value of a variable, with its type; in lists and dicts, too: [$a, {b}].
A value that is a job, as in input=$job, is the job's result, once that has succeeded.
Inside a word they become text: out-{i}.csv, run-$i. In quoted text they stay as they are, except in
f'run {i}'. Expressions are not evaluated: assign a.b or d[k] to a variable first. A $ or { without a name
after it is itself; so are \\$name, \\{name}, $$name and {{name}}.
A word that begins with # begins a comment."""


def verb_help(verb: Verb) -> str:
    """Return the help of one verb: usage, options, and how jobs and values are written."""
    options = verb.every_option
    width = max((len(option.shown) for option in options), default=0)
    lines = [*verb.usage, "", f"{verb.help[0].upper()}{verb.help[1:]}."]
    if options:
        lines += ["", *(f"  {option.shown:<{width}}  {option.help}" for option in options)]
    text = "\n".join(lines)
    if any("JOB" in usage for usage in verb.usage):
        text += "\n" + _JOB
    if verb.cell:
        text += "\n" + _TASK
    if verb.pairs or CONFIG in options:
        text += "\n" + _VALUES
    return text


def general_help() -> str:
    """Return the usage and a line of help for each verb."""
    lines = []
    for verb in VERBS.values():
        lines += [*verb.usage, f"    {verb.help}"]
    return "\n".join([*lines, _JOB, _VALUES, "", "More about one: %taskapi help VERB"])
