"""Notebooks of jobs in other formats: nbconvert makes them in a process of its own, which runs this module.

What is made stays in the job's folder until the notebook changes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

import msgspec

from taskapi_jupyter.core import decoding, files
from taskapi_jupyter.core.errors import NotAcceptable, printable

#: By format: what it is called in a message, the end of its files' names (a script's is that of its language), its
#: media type.
FORMATS = {
    "html": ("HTML", ".html", "text/html; charset=utf-8"),
    "markdown": ("Markdown", ".md", "text/markdown; charset=utf-8"),
    "script": ("a script", ".txt", "text/plain; charset=utf-8"),
}
LONGEST = 120.0  # seconds that making one may take

_MAKING = threading.Semaphore(1)  # each takes a core, and memory
_EXTENSION = re.compile(r"\.[A-Za-z0-9]{1,8}")


class _Language(msgspec.Struct, frozen=True):
    file_extension: str = ""


class _Metadata(msgspec.Struct, frozen=True):
    language_info: _Language = _Language()


class _Head(msgspec.Struct, frozen=True):
    metadata: _Metadata = _Metadata()


def extension_of(file: IO[bytes], form: str) -> str:
    """Return how the name of a notebook's file in a format ends; of a script as its language has it."""
    if form == "script":
        file.seek(0)
        with suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            found = decoding.reader(_Head).decode(file.read()).metadata.language_info.file_extension
            if _EXTENSION.fullmatch(found):
                return found
    return FORMATS[form][1]


def converted(folder: Path, file: IO[bytes], form: str, title: str) -> IO[bytes]:
    """Return a job's notebook in a format, opened; raise :class:`NotAcceptable` where it can't be made.

    ``folder`` is the job's. May take long. What was made of the same save before is used again: its time is the save's.
    """
    path, saved = folder / f"notebook.{form}", os.fstat(file.fileno()).st_mtime_ns
    with _MAKING:
        for made in (False, True):
            with suppress(OSError):
                found = os.fdopen(files.open_below(folder.parent, (folder.name, path.name)), "rb")
                if os.fstat(found.fileno()).st_mtime_ns == saved:
                    return found
                found.close()
            if not made:
                _make(path, file, form, title, saved)
    raise NotAcceptable(f"the notebook can't be made into {FORMATS[form][0]}: what was made is not there")


def _make(path: Path, file: IO[bytes], form: str, title: str, saved: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns()}.tmp")
    os.lseek(file.fileno(), 0, os.SEEK_SET)
    with open(files.create(temporary, os.O_WRONLY | os.O_EXCL), "wb") as out:
        try:
            done = subprocess.run(
                [sys.executable, "-m", __name__, form, title],
                stdin=file,
                stdout=out,
                stderr=subprocess.PIPE,
                cwd="/",
                timeout=LONGEST,
                check=False,
            )
            if done.returncode != 0:
                last = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2] or f"exit {done.returncode}"
                raise NotAcceptable(f"the notebook can't be made into {FORMATS[form][0]}: {printable(last)[:500]}")
            os.utime(temporary, ns=(saved, saved))
            os.rename(temporary, path)
        except subprocess.TimeoutExpired:
            raise NotAcceptable(
                f"the notebook can't be made into {FORMATS[form][0]}: it takes longer than {LONGEST:g} s"
            ) from None
        finally:
            temporary.unlink(missing_ok=True)


def main() -> None:
    """Read a notebook from standard input and write it in the format of the first argument, under a title."""
    form, title = sys.argv[1:]
    sys.modules["rfc3987_syntax"] = None  # type: ignore[assignment]  # jsonschema's check of URIs, which takes 2 s
    import nbformat
    from nbconvert import exporters

    make: Any = exporters
    notebook = nbformat.reads(sys.stdin.buffer.read().decode("utf-8-sig"), 4)
    language = notebook.metadata.get("language_info", {})
    language.pop("nbconvert_exporter", None)  # the notebook does not say which class is imported
    if form == "html":
        exporter = make.HTMLExporter()
    elif form == "markdown":
        exporter = make.MarkdownExporter(default_preprocessors=[])  # pictures stay in it: there is no folder for them
    else:
        exporter = make.PythonExporter() if language.get("name") == "python" else make.ScriptExporter()
    text, _ = exporter.from_notebook_node(notebook, {"metadata": {"name": title}})
    sys.stdout.buffer.write(text.encode("utf-8", "replace"))


if __name__ == "__main__":
    main()
