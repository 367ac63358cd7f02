"""The verbs of ``%taskapi`` with their options and help. The terminal's parser takes the options that it shares."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Option:
    """``kind`` is what follows it: nothing, text (``maybe``: or nothing), a variable, a number, a time, JSON, or
    KEY=VALUE (repeatable)."""

    name: str
    kind: Literal["flag", "text", "maybe", "name", "int", "time", "json", "pair"]
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
    """With ``pairs``, KEY=VALUE is configuration; with ``cell``, ``%%taskapi`` takes the verb, too."""

    name: str
    usage: tuple[str, ...]
    help: str
    options: tuple[Option, ...] = ()
    cell_options: tuple[Option, ...] = ()
    pairs: bool = False
    cell: bool = False

    @property
    def takes_job(self) -> bool:
        """Whether it takes a job."""
        return any("JOB" in usage for usage in self.usage)

    def taken(self, cell: bool) -> tuple[Option, ...]:
        """Return the options that it takes, as a line or above a cell."""
        return self.options + self.cell_options if cell else self.options


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
NEEDS = (
    Option("--cpu", "text", "cores that each job needs, such as 2 or 500m", "N"),
    Option("--mem", "text", "memory that each job may use, such as 512Mi or 4Gi", "SIZE"),
    Option("--gpu", "int", "GPUs that each job needs", "N"),
    Option("--env-var", "pair", "an environment variable for its jobs", "K=V"),
    WARM,
)

_ALL = (
    Verb(
        "deploy",
        (
            "%%taskapi deploy NAME [--cpu N] [--mem SIZE] [--gpu N] [--run-timeout T] [--timeout T]"
            " [--env-var K=V] [--config JSON] [--warm [MODULES]]",
            "%taskapi deploy FILE.yaml",
            "%taskapi deploy NAME --function FN",
        ),
        "makes a task API from a cell, a configuration file, or a function or class of the notebook",
        (*NEEDS, RUN_TIMEOUT, TIMEOUT, CONFIG, Option("--function", "name", "a callable of the notebook", "FN")),
        cell=True,
    ),
    Verb(
        "submit",
        (
            "%taskapi submit API [key=value ...] [--config JSON|$var] [--run-timeout T] [--timeout T] [--wait]",
            "%%taskapi submit NAME [key=value ...]",
        ),
        "starts a job; above a cell, deploys the cell first",
        (CONFIG, RUN_TIMEOUT, TIMEOUT, WAIT),
        NEEDS,
        pairs=True,
        cell=True,
    ),
    Verb(
        "status",
        ("%taskapi status [API] [JOB] [--status S] [--search WORDS] [--limit N] [--watch]",),
        "shows APIs and jobs, one API with its jobs, or one job",
        (
            Option("--status", "text", "only jobs in this state, or in one of several: a,b", "S"),
            SEARCH,
            LIMIT,
            Option("--watch", "flag", "keeps showing until nothing is in progress", short="-w"),
        ),
    ),
    Verb(
        "stop",
        ("%taskapi stop JOB...", "%taskapi stop [API] --all"),
        "stops jobs; stopping a job again kills it without waiting for its cleanup",
        (Option("--all", "flag", "every job in progress"),),
    ),
    Verb(
        "delete",
        ("%taskapi delete API", "%taskapi delete API JOB"),
        "deletes an API and stops its jobs; with a job, stops only that",
    ),
    Verb(
        "logs",
        ("%taskapi logs JOB [-n LINES] [-f]",),
        "prints what a job wrote, the newest MiB of it; a progress bar in its last state",
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
        "waits for jobs to end; an error unless all succeeded",
        (PATIENCE,),
    ),
    Verb("result", ("%taskapi result JOB",), "waits, then returns what the task returned"),
    Verb(
        "rerun",
        ("%taskapi rerun JOB [--same] [--wait]",),
        "submits a job's configuration again, to the API as it is deployed now",
        (Option("--same", "flag", "runs the version that the job ran, not the one that is deployed now"), WAIT),
    ),
    Verb("panel", ("%taskapi panel [API]",), "shows jobs live, with a form to submit and buttons to stop"),
    Verb("env", ("%taskapi env [NAME]",), "lists environments, or chooses the one that this kernel uses"),
    Verb("help", ("%taskapi help [VERB]",), "explains a verb, or lists all"),
)

VERBS = {verb.name: verb for verb in _ALL}
ALIASES = {"get": "status"}

_JOB = """
JOB is a variable that holds a job, `last` (the newest job that no other notebook submitted), an id, or
the last four or more digits of an id. Cortex's order, API JOB, works too."""

_TASK = """
The task is the class Task; else the one function with a parameter config; else the function with the API's
name; else the only function whose name doesn't begin with _. Other parameters are filled from the config."""

_VALUES = """
A value is a Python literal (0.1, 1_000, True, None, [1, 'a'], {'a': 1}; a tuple becomes a list) or JSON
(true, null); anything else is text. Quoted text is text, as in Python: '5', 'two words', r'\\d+'. Around a
list, a dict or quoted text, quotes are dropped as in a shell: '[1, 2]' is a list and '"5"' the text 5.
NaN and infinities are refused, because JSON has none.
$name, ${name} and {name} are the value of a variable, with its type; in lists and dicts, too: [$a, {b}].
Inside a word they become text: out-{i}.csv, run-$i. In quoted text they stay as they are, except in
f'run {i}'. Expressions are not evaluated: assign a.b or d[k] to a variable first. A $ or { without a name
after it is itself; so are \\$name, \\{name}, $$name and {{name}}.
A word that begins with # begins a comment."""


def verb_help(verb: Verb) -> str:
    """Return the help of one verb: usage, options, and how jobs and values are written."""
    options = list(dict.fromkeys(verb.options + verb.cell_options))
    width = max((len(option.shown) for option in options), default=0)
    lines = [*verb.usage, "", f"{verb.help[0].upper()}{verb.help[1:]}."]
    if options:
        lines += ["", *(f"  {option.shown:<{width}}  {option.help}" for option in options)]
    text = "\n".join(lines)
    if verb.takes_job:
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
