"""Completion after ``%taskapi``. It never raises and never takes long: slow answers are left out."""

from __future__ import annotations

import ast
import re
import threading
import time
from collections.abc import Callable, Container, Iterable, Mapping
from pathlib import Path
from typing import Any

from taskapi_jupyter.client.groups.group import Group
from taskapi_jupyter.client.schedules.options import CHOICES
from taskapi_jupyter.client.taskapi import Job, JobList
from taskapi_jupyter.core.states import JobCode
from taskapi_jupyter.deploy.notebook import is_notebook
from taskapi_jupyter.ui.verbs import ALIASES, VERBS, Verb

#: A line up to the magic and a space; also ``job = %taskapi …`` and, with automagic, without a percent sign.
HOOK = r"\s*(?:[\w.,\[\]][\w.,\s\[\]]*=\s*)?%{0,2}taskapi\s"
_BEGIN = re.compile(HOOK)
PATIENCE = 0.7  # seconds for all queries of one Tab
_FRESH = 2.0  # seconds for which an answer is reused
_TAKES_API = {"status", "submit", "delete", "stop", "logs", "panel"}

#: "apis", "jobs", "environments", "packages", "schedules", "kernels",
#: "parameters API" or "values API PARAMETER" -> words
Ask = Callable[[str], Iterable[str]]


class Completer:
    """Completes lines. It calls ``ask`` for names, in a thread and at most every two seconds."""

    def __init__(self, ask: Ask, variables: Mapping[str, Any]) -> None:
        self._ask = ask
        self._variables = variables
        self._known: dict[str, tuple[float, list[str]]] = {}
        self._hidden: Container[str] = ()

    def __call__(self, shell: Any, event: Any) -> list[str]:
        """Answer IPython's hook."""
        try:
            self._hidden = shell.user_ns_hidden
            return self.complete(event.text_until_cursor)
        except Exception:  # a completer that raises is worse than one that knows nothing
            return []

    def complete(self, text: str) -> list[str]:
        """Return the words that may come next."""
        begin = _BEGIN.match(text)
        if begin is None:
            return []
        words = text[begin.end() :].split(" ")
        now, before = words[-1], [word for word in words[:-1] if word]
        if not before:
            return [*VERBS, *ALIASES]
        verb = VERBS.get(ALIASES.get(before[0], before[0]))
        if verb is None:
            return []
        name, equals, _ = now.partition("=")
        option = name if equals else before[-1]
        values = self._values(verb, option, now.startswith("--") and bool(equals))
        if values is not None:
            return values
        if "$" in now or "{" in now:
            return self._names(lambda value: not callable(value))
        if now.startswith("-"):
            return [option.name for option in verb.taken("%%" in begin[0], any(map(is_notebook, before)))]
        if verb.pairs and (api := self._api(verb, before[1:])):
            if equals:
                return self._fetch(f"values {api} {name}")
            given = {word.partition("=")[0] for word in before}
            return [word for word in self._fetch(f"parameters {api}") if word.removesuffix("=") not in given]
        return self._words(verb, len([word for word in before[1:] if not word.startswith("-")]))

    def _values(self, verb: Verb, option: str, joined: bool) -> list[str] | None:
        """Return what may follow an option; None where no option is waiting for its value."""
        if not joined and not option.startswith("-"):
            return None
        if option == "--status":
            return [code.value for code in JobCode]
        if option == "--kernel":
            return self._fetch("kernels")
        if option == "--notify":
            return [*self._fetch("notifications"), "browser", "off"]
        if option == "--requirements":
            return [*_files("*requirements*.txt", "uv.lock", "pylock*.toml"), "auto", "none"]
        if verb.name == "schedule" and option in ("--overlap", "--catch-up"):
            return list(CHOICES[option[2:].replace("-", "_")])
        if option == "--tz":
            from zoneinfo import available_timezones

            return sorted(available_timezones())
        if option == "--after":
            return self._jobs()
        if option == "--function":
            return self._names(callable)
        known = {each.name: each.kind for each in verb.every_option}
        known |= {each.short: each.kind for each in verb.options if each.short}
        return [] if known.get(option, "flag") not in ("flag", "json", "maybe") else None

    def _api(self, verb: Verb, words: list[str]) -> str | None:
        """Return the API of a line: the first word that is neither an option nor its value."""
        valued = {each.name for each in verb.every_option if each.kind != "flag"}
        for word, previous in zip(words, ["", *words], strict=False):
            if not word.startswith("-") and "=" not in word and previous not in valued:
                return word
        return None

    def _words(self, verb: Verb, position: int) -> list[str]:
        if verb.name == "help":
            return [*VERBS]
        if verb.name == "env":
            return self._fetch("environments") if position == 0 else []
        if verb.name == "notify" and position > 0:
            return [*self._fetch("notifications"), "browser", "off"] if position == 1 else []
        if verb.name == "schedule":
            return [*_files("*.ipynb"), *self._fetch("apis"), *self._fetch("schedules")] if position == 0 else []
        if verb.name == "packages":
            return self._fetch("packages") if position == 0 else []
        found: list[str] = []
        if verb.name == "deploy" and position == 0:
            found += _files("*.yaml", "*.yml", "*.ipynb")
            found += self._fetch("apis")
        if verb.name == "submit" and position == 0:
            found += _files("*.ipynb")
        if verb.name in _TAKES_API and position == 0:
            found += self._fetch("apis")
        return found + self._jobs() if verb.takes_job else found

    def _jobs(self) -> list[str]:
        held = self._names(lambda value: isinstance(value, Job | JobList | Group))
        return ["last", *held, *self._fetch("jobs")]

    def _names(self, wanted: Callable[[Any], bool]) -> list[str]:
        names = [n for n in self._variables if not n.startswith("_") and n not in self._hidden]
        return sorted(n for n in names if wanted(self._variables[n]))

    def _fetch(self, what: str) -> list[str]:
        """Ask for words in a thread; return the previous answer where a new one takes too long."""
        at, words = self._known.get(what, (float("-inf"), []))
        if time.monotonic() - at < _FRESH:
            return words
        asking = threading.Thread(target=self._refresh, args=(what,), daemon=True)
        asking.start()
        asking.join(PATIENCE / 2)  # one Tab makes two queries at most
        return self._known.get(what, (0.0, words))[1]

    def _refresh(self, what: str) -> None:
        try:
            words = list(self._ask(what))
        except Exception:  # nobody could handle it
            words = []
        self._known[what] = (time.monotonic(), words)


def _files(*patterns: str) -> list[str]:
    return sorted(str(path) for pattern in patterns for path in Path().glob(pattern))


def known_values(parameter: Mapping[str, Any]) -> list[str]:
    """Return the values that a parameter's annotation lists: ``bool`` and ``Literal``, ``None`` beside them."""
    words: list[str] = []
    for part in re.findall(r"Literal\[[^\]]*\]|\bbool\b|\bNone\b|\bOptional\b", str(parameter.get("type") or "")[:200]):
        if part.startswith("Literal"):
            try:
                values = ast.literal_eval(part[len("Literal") :])
            except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
                continue
            words += [one if _is_text(one) else repr(one) for one in values]
        else:
            words += {"bool": ["True", "False"]}.get(part, ["None"])
    return words


def _is_text(value: object) -> bool:
    """Whether a value is text that needs no quotes."""
    words = {"none", "true", "false", "null", "nan", "infinity"}
    return isinstance(value, str) and value.isidentifier() and value.lower() not in words
