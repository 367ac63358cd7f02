"""Which cells of a notebook have changed since a version that a client has: of notebooks that jobs save as they run."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import IO, Any

import msgspec

from taskapi_jupyter.core import decoding
from taskapi_jupyter.core.contract import encode
from taskapi_jupyter.core.errors import NoNotebook, TooLarge, size

MOST_BYTES = 256 << 20  # of a notebook that is read here; a larger one can be downloaded
MOST_JOBS = 100  # whose versions are remembered
MOST_VERSIONS = 1000  # of one notebook
LARGE_ANSWER = 4 << 20  # bytes; one that is larger is not kept for the next client


class _Notebook(msgspec.Struct):
    """A notebook whose cells are not decoded: 100 MB take 60 ms, and take turns from nobody for a second."""

    cells: list[msgspec.Raw]


@dataclass
class _Known:
    """What is known of one notebook. Versions are numbered as they are seen."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    latest: str = ""
    number: int = 0  # of the latest version
    numbers: OrderedDict[str, int] = field(default_factory=OrderedDict)
    cells: list[tuple[bytes, int]] = field(default_factory=list)  # digest; number of the version that changed it last
    answer: tuple[str | None, str, bytes] = (None, "", b"")  # since, version, and what was answered


class Versions:
    """Remembers when each cell was last changed, for the notebooks that were asked for last."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._jobs: OrderedDict[Hashable, _Known] = OrderedDict()

    def changes(self, job: Hashable, since: str, version: str, file: IO[bytes]) -> bytes:
        """Return, as JSON, the cells of a file that is of this version that have changed since another one.

        All of them, where that version is unknown. May take long. Raises :class:`NoNotebook` where the file is none.
        """
        with self._lock:
            known = self._jobs.pop(job) if job in self._jobs else _Known()
            self._jobs[job] = known
            if len(self._jobs) > MOST_JOBS:
                self._jobs.popitem(last=False)
        with known.lock:
            if known.answer[:2] == (since, version):
                return known.answer[2]
            cells: list[msgspec.Raw] | None = None
            if version != known.latest:
                cells = read(file)
                _note(known, version, cells)
            begin = known.numbers.get(since, -1)
            changed = [index for index, (_, number) in enumerate(known.cells) if number > begin]
            if changed and cells is None:
                cells = read(file)
            answer = encode(
                {
                    "version": version,
                    "total": len(known.cells),
                    "cells": [(index, cells[index]) for index in changed] if cells else [],
                }
            )
            if len(answer) <= LARGE_ANSWER:
                known.answer = (since, version, answer)
            return answer


def _note(known: _Known, version: str, cells: list[msgspec.Raw]) -> None:
    """Note a version, and which cells it changed."""
    digests = [blake2b(cell, digest_size=16).digest() for cell in cells]
    known.number += 1
    before = known.cells
    known.cells = [
        before[index] if index < len(before) and before[index][0] == digest else (digest, known.number)
        for index, digest in enumerate(digests)
    ]
    known.latest = version
    known.numbers.pop(version, None)
    known.numbers[version] = known.number
    if len(known.numbers) > MOST_VERSIONS:
        known.numbers.popitem(last=False)


def kept_kernels(manager: Any) -> dict[str, str]:
    """Return the kernels that jobs keep and Jupyter lists: the connection file of each, by the id that it has there.

    One that somebody has shut down in Jupyter, which ends no kernel of others, is listed anew: jupyter_client (seen in
    8.10) forgets it by halves, and fails when its file is gone.
    """
    there: dict[str, object] = getattr(manager, "kernel_id_to_connection_file", {})
    for kernel_id in [one for one in there if one not in manager]:
        del there[kernel_id]
    manager.list_kernel_ids()  # looks for new ones
    return {kernel_id: str(file) for kernel_id, file in there.items()}


def version_of(file: IO[bytes]) -> str:
    """Return what tells a saved notebook from the next one: each save makes another file."""
    about = os.fstat(file.fileno())
    return blake2b(f"{about.st_ino} {about.st_size} {about.st_mtime_ns}".encode(), digest_size=8).hexdigest()


def check_size(file: IO[bytes]) -> None:
    """Raise :class:`TooLarge` for a notebook that is too large to be read here."""
    if os.fstat(file.fileno()).st_size > MOST_BYTES:
        raise TooLarge(f"the notebook is larger than {size(MOST_BYTES)}: download it")


def read(file: IO[bytes]) -> list[msgspec.Raw]:
    """Return the cells of a notebook, undecoded."""
    check_size(file)
    file.seek(0)
    try:
        cells = decoding.reader(_Notebook).decode(file.read()).cells
        if all(bytes(memoryview(cell)[:1]) == b"{" for cell in cells):
            return cells
        why = "a cell is no object"
    except (msgspec.DecodeError, RecursionError) as error:
        why = str(error)
    raise NoNotebook(f"what the job left in place of its notebook is none: {why}")
