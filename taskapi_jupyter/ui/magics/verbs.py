"""What ``%taskapi`` understands: its verbs with their options, and the help that is made of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Option:
    """``kind`` says what follows: nothing, text, a variable, a number, a time, JSON, or KEY=VALUE (repeatable)."""

    name: str
    kind: Literal["flag", "text", "name", "int", "time", "json", "pair"]
    help: str
    metavar: str = ""
    short: str = ""

    @property
    def key(self) -> str:
        """Return the name without its dashes, as a Python name."""
        return self.name.removeprefix("--").replace("-", "_")

    @property
    def shown(self) -> str:
        """Return the option as help shows it."""
        names = f"{self.short}, {self.name}" if self.short else self.name
        return f"{names} {self.metavar}".rstrip()


@dataclass(frozen=True)
class Verb:
    """``pairs`` says whether KEY=VALUE is configuration; ``cell`` whether ``%%taskapi`` takes the verb."""

    name: str
    usage: tuple[str, ...]
    help: str
    options: tuple[Option, ...] = ()
    cell_options: tuple[Option, ...] = ()
    pairs: bool = False
    cell: bool = False

    def taken(self, cell: bool) -> tuple[Option, ...]:
        """Return the options that it takes, as a line or above a cell."""
        return self.options + self.cell_options if cell else self.options


CONFIG = Option("--config", "json", "configuration: a JSON object, or $name for a variable", "JSON")
WAIT = Option("--wait", "flag", "wait for the end; an error unless the job succeeded")
TIMEOUT = Option("--timeout", "time", "the same, counted from submission: the wait in line is part of it", "T")
RUN_TIMEOUT = Option("--run-timeout", "time", "stops a job that has run so long: seconds, or 90s, 15m, 1h30m", "T")
NEEDS = (
    Option("--cpu", "text", "cores that a job of it needs, such as 2 or 500m", "N"),
    Option("--mem", "text", "memory that a job of it may use, such as 512Mi or 4Gi", "SIZE"),
    Option("--gpu", "int", "GPUs that a job of it needs", "N"),
    Option("--env-var", "pair", "an environment variable of its jobs", "K=V"),
)

_ALL = (
    Verb(
        "deploy",
        (
            "%%taskapi deploy NAME [--cpu N] [--mem SIZE] [--gpu N] [--run-timeout T] [--timeout T]"
            " [--env-var K=V] [--config JSON]",
            "%taskapi deploy FILE.yaml",
            "%taskapi deploy NAME --function FN",
        ),
        "makes a task API of a cell, a configuration file, or a function or class of the notebook",
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
        ("%taskapi status [API] [JOB] [--status S] [--limit N] [--watch]",),
        "shows APIs and jobs, one API with its jobs, or one job",
        (
            Option("--status", "text", "only jobs in this state, or in one of several: a,b", "S"),
            Option("--limit", "int", "how many jobs at most", "N"),
            Option("--watch", "flag", "keeps showing until nothing is in progress", short="-w"),
        ),
    ),
    Verb(
        "stop",
        ("%taskapi stop JOB...", "%taskapi stop [API] --all"),
        "stops jobs; stopping one again ends the time that it has to clean up",
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
        "prints what a job wrote, the newest MiB; a progress bar in its last state",
        (
            Option("--tail", "int", "only the last lines", "LINES", "-n"),
            Option(
                "--follow", "flag", "goes on until the job has ended; a line says what it had to leave out", short="-f"
            ),
        ),
    ),
    Verb(
        "wait",
        ("%taskapi wait JOB... [--timeout T]",),
        "waits for jobs to end; an error unless all succeeded",
        (Option("--timeout", "time", "gives up waiting after so long, such as 15m; the job goes on", "T"),),
    ),
    Verb("result", ("%taskapi result JOB",), "waits, then returns what the task returned"),
    Verb(
        "rerun",
        ("%taskapi rerun JOB [--same] [--wait]",),
        "submits a job's configuration again, to the API as it is deployed now",
        (Option("--same", "flag", "runs the version that the job ran, whatever is deployed now"), WAIT),
    ),
    Verb("panel", ("%taskapi panel [API]",), "shows jobs as they go, with a form to submit and buttons to stop"),
    Verb("env", ("%taskapi env [NAME]",), "lists environments, or sets the one that this kernel uses"),
    Verb("help", ("%taskapi help [VERB]",), "explains"),
)

VERBS = {verb.name: verb for verb in _ALL}
ALIASES = {"get": "status"}

_JOB = """
JOB is a variable that holds a job, `last` (the newest that no other notebook submitted), an id, or
the last four or more digits of one. API JOB is taken too."""

_TASK = """
The task is the class Task, else the one function of config, else the function with the API's name, else
the only one whose name doesn't begin with _. The config fills parameters of other names than config."""

_VALUES = """
A value is what Python's literals mean (0.1, 1_000, True, None, [1, 'a'], {'a': 1}; a tuple is a list),
JSON (true, null) too, and text where it is neither. Quoted text is text, as in Python: '5', 'two words',
r'\\d+'. A list, a dict or a quotation within quotes is what it is without them: '[1, 2]' is a list and
'"5"' the text 5, as in a shell. NaN and infinities are refused: JSON has none.
$name, ${name} or {name} is the value of a variable, with its type; in lists and dicts, too: [$a, {b}].
Inside a word they become text: out-{i}.csv, run-$i. Quoted text is taken as it is, but f'run {i}' has them
replaced. Expressions are not evaluated: a.b or d[k] goes into a variable first. A $ or { that no name
follows is itself; so is \\$name, \\{name}, $$name, {{name}}.
A word that begins with # begins a comment."""


def verb_help(verb: Verb) -> str:
    """Return what there is to know about a verb."""
    options = list(dict.fromkeys(verb.options + verb.cell_options))
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
    """Return all verbs, a line each, under how they are written."""
    lines = []
    for verb in VERBS.values():
        lines += [*verb.usage, f"    {verb.help}"]
    return "\n".join([*lines, _JOB, _VALUES, "", "More about one: %taskapi help VERB"])
