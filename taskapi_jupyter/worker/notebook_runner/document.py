"""The notebook as its job saves it: its cells, what is noted of them, and when it is written."""

from __future__ import annotations

import asyncio
import json
import os
import re
from datetime import datetime, timezone
from time import monotonic
from typing import Any

from harness import fault_point  # type: ignore[import-not-found]
from nbformat import from_dict

from .parameters import declares, inject, tags
from .telling import plain, write

SKIP = "skip-execution"
MARK = "papermill-error-cell-tag"  # of the cells that point to the one that failed
SHARE = 20  # a save may take one part in so many of the time
PAUSE = 1.0  # seconds between saves for output, at least

_HEADING = re.compile(r"^ {0,3}#{1,6}\s+(.*?)\s*#*\s*$")
_STYLE = 'style="color: red; font-size: 1.5em"'


class Document:
    """A notebook, by its file's text; ``values`` are what the job was submitted with.

    Of what is ``offered``, it gets the parameters that it declares and that it was not submitted with.
    """

    def __init__(
        self, text: bytes, values: dict[str, Any], kernel: str, language: str, offered: dict[str, Any]
    ) -> None:
        content: dict[str, Any] = json.loads(text)
        cells = [cell for cell in content["cells"] if MARK not in tags(cell)]
        values = {**{name: value for name, value in offered.items() if declares(cells, name)}, **values}
        self.injected = not values or inject(cells, values, kernel, language)
        known = {cell.get("id") for cell in cells}
        for at, cell in enumerate(cells):
            if "id" not in cell:  # before nbformat 4.5
                cell["id"] = next(one for one in (f"cell-{at}", f"cell-{at}-of-job") if one not in known)
            cell.setdefault("metadata", {})["papermill"] = _times("pending")
        content.update(cells=cells, nbformat_minor=max(content.get("nbformat_minor", 0), 5))
        metadata = content.setdefault("metadata", {})
        metadata["papermill"] = {**_times(None), "parameters": values, "start_time": now()}
        metadata["papermill"].pop("status")
        self.content = from_dict(content)
        self.numbers: dict[int, int] = {}  # of the cells that are executed, from 1 on
        self.headings: dict[int, str] = {}
        heading = ""
        for at, cell in enumerate(self.content["cells"]):
            source = cell["source"] = source_of(cell)
            if cell["cell_type"] == "markdown":
                heading = _heading(source) or heading
            if cell["cell_type"] == "code" and source.strip() and SKIP not in tags(cell):
                self.numbers[at] = len(self.numbers) + 1
                self.headings[at] = heading

    def begin(self, at: int) -> None:
        """Note that a cell begins."""
        cell = self.content["cells"][at]
        cell["metadata"]["papermill"] = {**_times("running"), "start_time": now()}
        cell["outputs"], cell["execution_count"] = [], None

    def end(self, at: int, status: str, error: bool) -> None:
        """Note how a cell ended."""
        noted = self.content["cells"][at]["metadata"]["papermill"]
        noted.update(status=status, exception=error)
        _stop_clock(noted)
        self.content["metadata"]["papermill"]["exception"] = True if error else None

    def finish(self) -> None:
        """Note that the notebook has ended."""
        _stop_clock(self.content["metadata"]["papermill"])

    def mark(self, at: int) -> int:
        """Put a cell at the top and one above the failed one that point to it; return where that is now."""
        label = self.label(at, with_heading=False)
        top = f'<span {_STYLE}>An error stopped this notebook at <a href="#papermill-error-cell">{label}</a>.</span>'
        here = f'<span id="papermill-error-cell" {_STYLE}>The job stopped in this cell:</span>'
        known = {cell["id"] for cell in self.content["cells"]}
        for place, name, text in ((at, "papermill-error-cell", here), (0, "papermill-error-summary", top)):
            cell = {"cell_type": "markdown", "id": name, "metadata": {"tags": [MARK]}, "source": text}
            if name in known:
                cell["id"] = f"{name}-{os.getpid()}"
            self.content["cells"].insert(place, cell)
        return at + 2

    def label(self, at: int, with_heading: bool = True) -> str:
        """Return what a message calls a cell: ``cell 4 (In [4]) "Train"``."""
        count = self.content["cells"][at].get("execution_count")
        heading = self.headings[at] if with_heading else ""
        parts = [f"cell {self.numbers[at]}", f"(In [{count}])" if count else "", f'"{heading}"' if heading else ""]
        return " ".join(part for part in parts if part)

    def text(self) -> bytes:
        """Return the file's text: each cell is a line, which the encoder in C writes."""
        encode = json.JSONEncoder(ensure_ascii=False, sort_keys=True).encode
        cells = ",\n".join(encode(cell) for cell in self.content["cells"])
        rest = {key: value for key, value in self.content.items() if key != "cells"}
        return f'{{"cells": [\n{cells}\n],\n{encode(rest)[1:]}\n'.encode("utf-8", "replace")


class Saver:
    """Writes the notebook whole or not at all, and seldom enough that this takes little of the time."""

    def __init__(self, document: Document, path: str, temporary: str) -> None:
        self.document, self.path, self.temporary = document, path, temporary
        self.ended = 0.0  # when the last save ended
        self.took = 0.0  # seconds that it took
        self.changed = False
        self.error: OSError | None = None  # of the last save
        self.timer: asyncio.TimerHandle | None = None

    def changes(self, pause: float = PAUSE) -> None:
        """See that what has changed is saved: now, or as soon as it may be, ``pause`` seconds after the last save."""
        self.changed = True
        wait = self.ended + max(pause, SHARE * self.took) - monotonic()
        if wait <= 0:
            self.save()
        else:
            loop = asyncio.get_running_loop()
            if self.timer is None or self.timer.when() > loop.time() + wait:
                self._cancel()
                self.timer = loop.call_later(wait, self.save)

    def save(self) -> None:
        """Write the notebook as it is now."""
        self._cancel()
        began = monotonic()
        try:
            write(self.path, self.document.text(), self.temporary)
            self.changed, self.error = False, None
        except OSError as error:  # a full disk must not end the cells
            self.error = error
        self.ended = monotonic()
        self.took = self.ended - began
        fault_point("notebook.saved")

    def write_html(self) -> str:
        """Write the page that the notebook makes beside it; return what went wrong: its cells ran all the same."""
        try:
            import warnings

            from nbconvert import HTMLExporter
            from nbformat import reads

            warnings.simplefilter("ignore")  # such as that of what is glued there is nothing to be shown
            stem = os.path.splitext(self.path)[0]
            about = {"metadata": {"name": os.path.basename(stem)}}  # the page's title
            text, _ = HTMLExporter().from_notebook_node(reads(self.document.text().decode(), 4), about)
            write(stem + ".html", text.encode("utf-8", "replace"), self.temporary)
        except Exception as error:
            return str(error) or type(error).__name__
        return ""

    def _cancel(self) -> None:
        if self.timer is not None:
            self.timer.cancel()
        self.timer = None


def now() -> str:
    """Return the time as the notebook has it."""
    return datetime.now(timezone.utc).isoformat()


def source_of(cell: dict[str, Any]) -> str:
    """Return a cell's source, which a file may have as a list of lines."""
    source = cell.get("source", "")
    return source if isinstance(source, str) else "".join(source)


def _times(status: str | None) -> dict[str, Any]:
    return {"status": status, "exception": None, "start_time": None, "end_time": None, "duration": None}


def _stop_clock(noted: dict[str, Any]) -> None:
    noted["end_time"] = now()
    began, ended = (datetime.fromisoformat(noted[key]) for key in ("start_time", "end_time"))
    noted["duration"] = (ended - began).total_seconds()


def _heading(text: str) -> str:
    """Return the last heading of a Markdown cell, without those in blocks of code."""
    found, fenced = "", False
    for line in text.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif not fenced and (heading := _HEADING.match(line)):
            found = plain(heading[1], 100) or found
    return found
