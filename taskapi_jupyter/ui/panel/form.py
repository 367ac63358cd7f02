"""The form that submits a job: a config that is checked as it is typed, and a timeout."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipywidgets import HTML, Button, HBox, Text, Textarea, VBox

from taskapi_jupyter.client.taskapi import API
from taskapi_jupyter.core import nesting
from taskapi_jupyter.display.facts import starting_config
from taskapi_jupyter.display.formats import duration
from taskapi_jupyter.display.views import Fact

from .html import parameter_table, runs, said, title

MAX_TIMEOUT = 10**9  # seconds

Submit = Callable[[str, dict[str, Any], int | None], None]


class Form:
    """Calls ``submit`` with what is typed, for the API that is :meth:`shown <show>`."""

    def __init__(self, submit: Submit) -> None:
        self._submit = submit
        self._name: str | None = None
        self._filled = ""
        self._busy = False
        self._hint = ""
        self._checking = threading.Lock()  # typing is handled in the kernel's thread, show() is called in the panel's
        self.title = HTML()
        self.config = Textarea(
            description="Config (JSON)", rows=4, tooltip="The job's configuration: a JSON object", value="{}"
        ).add_class("ta-field")
        self.config.add_class("ta-config")
        self.timeout = Text(
            description="Timeout (seconds)", tooltip="Seconds from submission until the job is stopped"
        ).add_class("ta-field")
        self.button = Button(description="Submit", button_style="primary", tooltip="Start a job with this config")
        self.runs, self.parameters = HTML(), HTML()
        self.complaint = HTML().add_class("ta-said")
        self.answer = HTML().add_class("ta-said")
        side = VBox([self.timeout, self.button]).add_class("ta-side")
        self.fields = HBox([self.config, side]).add_class("ta-form")
        below = [self.runs, self.parameters, self.complaint, self.answer]
        self.box = VBox([self.title, self.fields, *below]).add_class("ta-part")
        for field in (self.config, self.timeout):
            field.observe(lambda change: self._check(), "value")
        self.button.on_click(lambda button: self._clicked())

    def show(self, name: str | None, api: API | None, hint: str, facts: Sequence[Fact] = ()) -> None:
        """Show the form for an API, with its default config and what runs its jobs.

        ``hint`` says why nothing can be submitted.
        """
        default = prefill(api)
        if name != self._name or (default != self._filled and self.config.value == self._filled):
            self.config.value = self._filled = default
        if name != self._name:
            self._name, self.answer.value = name, ""
        spec: Mapping[str, Any] = (api.spec or {}) if api else {}
        timeout = spec.get("timeout")
        self.timeout.placeholder = duration(timeout) if isinstance(timeout, int) else "none"
        self.title.value = title("Submit a job to", name) if name else title("Submit a job")
        self.fields.layout.display = None if name else "none"
        self.runs.value = runs(facts) if name else ""
        self.parameters.value = parameter_table(api) if name and api else ""
        self._hint = hint
        self._check()

    def say(self, text: str, look: str = "ta-dim") -> None:
        """Show the outcome of a submission."""
        self.answer.value = said(text, look)

    def busy(self, busy: bool) -> None:
        """Disable the button while a submission is under way."""
        self._busy = busy
        self._check()

    def _check(self) -> None:
        """Show what is wrong with what is typed."""
        with self._checking:
            complaints = []
            for field, read in ((self.config, read_config), (self.timeout, read_timeout)):
                try:
                    read(field.value)
                    field.remove_class("ta-invalid")
                except ValueError as error:
                    complaints.append(str(error))
                    field.add_class("ta-invalid")
            self.complaint.value = said(" ".join(complaints), "ta-error") or said(self._hint)
            self.button.disabled = bool(complaints or self._hint) or self._busy

    def _clicked(self) -> None:
        if self._name is not None and not self.button.disabled:
            self._submit(self._name, read_config(self.config.value), read_timeout(self.timeout.value))


def prefill(api: API | None) -> str:
    """Return the default config of an API's jobs, as text to edit."""
    return json.dumps(starting_config(api) if api else {}, indent=2, ensure_ascii=False)


def read_config(text: str) -> dict[str, Any]:
    """Read a config; raise ValueError with a sentence that says what is wrong, and where."""
    try:
        nesting.check(text, nesting.MAX_DEPTH + 1)
        value = json.loads(text or "{}", parse_constant=_refuse)
    except json.JSONDecodeError as error:
        what = error.msg[0].lower() + error.msg[1:]
        raise ValueError(f"Line {error.lineno}, column {error.colno} of the config: {what}.") from None
    except nesting.TooDeep:
        raise ValueError(f"The config is nested too deeply: more than {nesting.MAX_DEPTH} levels.") from None
    if not isinstance(value, dict):
        raise ValueError('The config must be a JSON object, such as {"lr": 0.1}.')
    return value


def _refuse(constant: str) -> None:
    raise ValueError(f"The config holds {constant}, which JSON can't represent.")


def read_timeout(text: str) -> int | None:
    """Read a timeout, None for nothing; raise ValueError with a sentence."""
    text = text.strip()
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:12]) <= MAX_TIMEOUT and len(text) <= 12):
        raise ValueError("The timeout must be a whole number of seconds, 1 or more.")
    return int(text)
