"""Notebooks that tests deploy, and what their jobs leave."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbformat

from taskapi_jupyter.client.job import Job
from taskapi_jupyter.service.service import Service

from . import PATIENCE, until

Cell = str | dict[str, Any]


def code(source: str, *tags: str, **metadata: Any) -> dict[str, Any]:
    """Return a code cell that was run, as Lab writes it."""
    return {
        "cell_type": "code",
        "id": f"c{abs(hash(source)) % 10**9}",
        "source": source.splitlines(keepends=True),
        "outputs": [{"output_type": "stream", "name": "stdout", "text": ["printed\n"]}],
        "execution_count": 7,
        "metadata": {**({"tags": list(tags)} if tags else {}), **metadata},
    }


def markdown(source: str) -> dict[str, Any]:
    """Return a markdown cell."""
    return {"cell_type": "markdown", "id": "m1", "source": [source], "metadata": {}}


def notebook(*cells: dict[str, Any], kernel: str | None = "python3", **metadata: Any) -> dict[str, Any]:
    """Return a notebook's content; ``kernel`` is the name of its kernelspec."""
    named = {} if kernel is None else {"kernelspec": {"name": kernel, "display_name": kernel}}
    return {"nbformat": 4, "nbformat_minor": 5, "metadata": {**named, **metadata}, "cells": list(cells)}


def put(path: Path, *cells: dict[str, Any], **metadata: Any) -> Path:
    """Write a notebook with cells as they are, valid or not; return its path."""
    path.write_text(json.dumps(notebook(*cells, **metadata)))
    return path


def kernelspec(folder: Path, name: str, argv: list[str], language: str = "python") -> None:
    """Add a kernelspec below a folder of ``JUPYTER_PATH``."""
    there = folder / "kernels" / name
    there.mkdir(parents=True)
    about = {"argv": argv, "display_name": f"The {name}", "language": language}
    (there / "kernel.json").write_text(json.dumps(about))


def tagged(source: str, *tags: str) -> dict[str, Any]:
    """Return a code cell with tags."""
    return nbformat.v4.new_code_cell(source, metadata={"tags": list(tags)})


def write(path: Path, *cells: Cell, kernel: str = "python3") -> Path:
    """Write a notebook; texts that begin with ``#`` and a space on their only line are headings, others are code."""
    v4 = nbformat.v4
    made = [
        cell
        if not isinstance(cell, str)
        else v4.new_markdown_cell(cell)
        if cell.startswith("# ") and "\n" not in cell
        else v4.new_code_cell(cell)
        for cell in cells
    ]
    about = {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}}
    path.write_text(nbformat.writes(v4.new_notebook(cells=made, metadata=about)))
    return path


def saved(service: Service, job: Job) -> Any:
    """Return a job's notebook as it is now, which is valid whenever that is; None before the first save."""
    files = list((service.home / "jobs" / job.id / "files").glob("*.ipynb"))
    if not files:
        return None
    text = files[0].read_text()
    nbformat.validate(nbformat.from_dict(json.loads(text)))
    assert files[0].stat().st_mode & 0o777 == 0o600
    return nbformat.reads(text, 4)


def printed(notebook: Any) -> list[str]:
    """Return what each of a notebook's code cells printed."""
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return ["".join(one.text for one in cell.outputs if one.output_type == "stream") for cell in cells]


def ended(job: Job) -> tuple[str, str | None]:
    """Wait for a job's end and return its status and reason."""
    job.wait(PATIENCE)
    return job.status, job.reason


def log_shows(job: Job, text: str) -> None:
    """Wait until a job's log holds a text."""
    until(lambda: text in job.logs() or job.refresh().ended, f"{text!r} in the log")
    assert text in job.logs(), job.logs()


Start = Callable[..., Job]
