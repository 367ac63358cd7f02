"""Warnings of a deploy: what the text of a task uses that a job does not have."""

from __future__ import annotations

import inspect
import os
import re
import textwrap
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Literal

from taskapi_jupyter.core.contract import DeployRequest, DeployResult
from taskapi_jupyter.core.errors import BadRequest, printable

from . import notebook
from .api_spec import cells, variables
from .callables import cell_name, functions_of
from .prepare import Source
from .source_analysis import IPYTHON, Uses, free_names, main_blocks, parse

_MOST = 20  # warnings about the text of one API
_LINES, _NAMES = 5, 10  # shown in one warning

_ASKS = ("input", "builtins.input", "getpass.getpass", "getpass.unix_getpass")
_DEBUGGERS = (
    *("breakpoint", "builtins.breakpoint", "pdb.set_trace", "pdb.post_mortem", "pdb.pm", "pudb.set_trace"),
    *("ipdb.set_trace", "ipdb.post_mortem", "ipdb.pm", "code.interact", "IPython.embed"),
    "IPython.core.debugger.set_trace",
)
_BARS = ("tqdm.notebook", "tqdm.tqdm_notebook", "tqdm.tnrange")
_VIEWS = ("Audio", "HTML", "IFrame", "Image", "Javascript", "Latex", "Markdown", "Math", "SVG", "Video")
_OF_IPYTHON = (*IPYTHON, "In", "Out", "_", "__", "___", "exit", "quit")
_OTHER_LANGUAGE = re.compile(r"\s*%%(?!time\b|timeit\b|capture\b)")
#: A magic that may define names; of the others it is known that they don't.
_DEFINES = re.compile(
    r"^[ \t]*%{1,2}(?!(?:matplotlib|(?:re)?load_ext|autoreload|config|pip|conda|cd|env|timeit|bash|html|markdown)\b)",
    re.MULTILINE,
)


@dataclass(frozen=True)
class Text:
    """A text that is deployed.

    ``where`` is its name in warnings, such as ``cell train``; ``first_line`` is the number shown beside its first line.
    Of a notebook, ``cells`` has the first line of each code cell, and warnings show the number of the cell.
    ``known`` maps the names that it may use beside its own and Python's to the full name of what they stand for, such
    as ``os.environ``; empty text where that is unknown.
    """

    text: str
    where: str
    kind: Literal["cell", "file", "function", "notebook"]
    first_line: int = 1
    known: Mapping[str, str] = field(default_factory=dict)
    cells: Sequence[int] = ()

    def at(self, lines: Iterable[int]) -> str:
        """Return a place for a warning: ``cell train, line 3``."""
        what, place = ("code cell", self._cell) if self.cells else ("line", lambda line: line + self.first_line - 1)
        numbers = sorted({place(line) for line in lines})
        more = ", ..." if len(numbers) > _LINES else ""
        return f"{self.where}, {what}{'s' if numbers[1:] else ''} {', '.join(map(str, numbers[:_LINES]))}{more}"

    def _cell(self, line: int) -> int:
        return bisect_right(self.cells, line)


def add_warnings(
    results: list[DeployResult],
    target: Any,
    request: DeployRequest,
    *,
    provider: str = "local",
    environ: Mapping[str, str] | None = None,
) -> None:
    """Add warnings about the text that a request deploys to the answer to it.

    ``target`` is what :func:`prepare` was given; ``provider`` that of the environment; ``environ`` has the variables of
    the deploying process, by default this one.
    """
    here = os.environ if environ is None else environ
    absent = absent_variables(request, here, provider)
    warnings = [one for text in _texts(target, request, results) for one in text_warnings(text, absent, provider)]
    add(results, warnings[:_MOST])


def _texts(target: Any, request: DeployRequest, results: list[DeployResult]) -> list[Text]:
    """Return the texts that a request deploys; a command has none."""
    if isinstance(target, Source):
        return [Text(target.text, f"cell {request.spec.get('name')}", "cell")]
    if notebook.is_task(request.spec):
        shown = [result.api.spec.get("definition") or {} for result in results if result.api]
        # Of other languages, no parameters are shown.
        return [_notebook_text(request)] if request.source and any("parameters" in one for one in shown) else []
    if request.source is not None:
        return [Text(request.source, printable(request.spec["definition"]["path"][-60:]), "file")]
    return function_texts(target) if callable(target) else []


def _notebook_text(request: DeployRequest) -> Text:
    """Return the code cells of a notebook of Python as one text, IPython's own lines left out."""
    path = printable(request.spec["definition"]["path"][-60:])
    sources = notebook.code_cells(request.source or "")
    texts = ["\n" * one.count("\n") if _OTHER_LANGUAGE.match(one) else cells.as_python(one) for one in sources]
    first_lines = list(accumulate((one.count("\n") + 1 for one in texts), initial=1))
    defines = any(_DEFINES.search(one) for one in sources)
    known = re.findall(r"\w+", "\n".join(texts)) if defines else _OF_IPYTHON
    return Text("\n".join(texts), path, "notebook", known=dict.fromkeys(known, ""), cells=first_lines[:-1])


def add(results: list[DeployResult], warnings: Iterable[str]) -> None:
    """Add warnings to the answer to one request, as a list and in its message; each once."""
    for result in [one for one in results if not one.error][:1]:
        there = list(result.warnings or ())
        if new := [text for text in dict.fromkeys(warnings) if text not in there]:
            result.warnings = [*there, *new]
            result.message = "\n".join([result.message, *(f"warning: {text}" for text in new)])


def function_texts(target: Callable[..., Any]) -> list[Text]:
    """Return the source, if available, of a function or class and of the notebook's functions that it uses."""
    texts = []
    for function in functions_of(target):
        try:
            lines, first = inspect.getsourcelines(function.__code__)
        except (OSError, TypeError, ValueError, SyntaxError):
            continue
        file = function.__code__.co_filename
        where = cell_name(file) or (os.path.basename(file) if os.path.isfile(file) else f"function {function.__name__}")
        known = {name: _full_name(value) for name, value in list(function.__globals__.items())}
        known.update(dict.fromkeys(function.__code__.co_freevars, ""))
        texts.append(Text(textwrap.dedent("".join(lines)), where, "function", max(first, 1), known))
    return texts


def _full_name(value: object) -> str:
    """Return the full name of a module, a function or ``os.environ``; empty text for anything else."""
    if value is os.environ:
        return "os.environ"
    if isinstance(value, ModuleType):
        return value.__name__
    if isinstance(value, FunctionType | BuiltinFunctionType):
        return f"{value.__module__}.{value.__qualname__}"
    return ""


def absent_variables(request: DeployRequest, environ: Mapping[str, str], provider: str) -> set[str]:
    """Return the variables in ``environ``, of the deploying process, that a job will not have."""
    there = {*(request.environ or ()), "CORTEX_LOG_LEVEL", "CUDA_VISIBLE_DEVICES", "PYTHONUNBUFFERED"}
    definition = request.spec.get("definition")
    own = definition.get("env") if isinstance(definition, Mapping) else None
    there.update(own if isinstance(own, Mapping) else ())
    if provider != "cortex":
        try:
            there.update(variables.dotenv(Path(request.cwd or "."))[0])
        except BadRequest:
            pass  # the deploy says what is wrong with it
    return {name for name in environ if name.isidentifier() and not name.startswith(variables.RESERVED)} - there


def text_warnings(text: Text, absent: Collection[str] = (), provider: str = "local") -> list[str]:
    """Return a sentence for each thing that a text uses and a job does not have.

    ``absent`` names environment variables that are set in the deploying process and that a job will not have;
    ``provider`` is that of the environment.
    """
    tree = parse(text.text)
    if tree is None:
        return []
    uses = Uses(tree, text.known)
    warnings = [
        *_of_names(text, {name: line for name, line in free_names(tree).items() if name not in text.known}),
        *_of_keyboard(text, uses),
        *(_of_views(text, uses) if text.kind != "notebook" else ()),
        *_of_variables(text, uses, absent, provider),
    ]
    blocks = main_blocks(tree)
    if blocks and text.kind == "cell" and provider != "cortex":
        warnings.append(f'{text.at(blocks)}: if __name__ == "__main__": this block runs when the task starts')
    return warnings


def _of_names(text: Text, free: Mapping[str, int]) -> Iterator[str]:
    if names := [name for name in free if name not in IPYTHON]:
        where = text.at(free[name] for name in names)
        if text.kind == "cell":
            yield (
                f"{where}: {_are(names)} neither defined nor imported in this cell; a task runs in a process of "
                "its own, where the variables of the notebook don't exist"
            )
        else:
            yield f"{where}: {_are(names)} neither defined nor imported; a job that reaches this line fails"
    if names := [name for name in free if name in IPYTHON]:
        yield (
            f"{text.at(free[name] for name in names)}: {_are(names)} available in notebooks only: a job that reaches "
            "this line fails; print() writes to its log"
        )


def _of_keyboard(text: Text, uses: Uses) -> Iterator[str]:
    for call, lines in uses.calls(_ASKS).items():
        yield f"{text.at(lines)}: {call} fails, as a job has no keyboard: give the value in the config"
    for call, lines in uses.calls(_DEBUGGERS).items():
        yield f"{text.at(lines)}: {call} can't be used, as a job has no keyboard"


def _of_views(text: Text, uses: Uses) -> Iterator[str]:
    if bars := [one.line for one in uses.imports if one.full.startswith(_BARS)]:
        yield (
            f"{text.at(bars)}: tqdm.notebook shows widgets, and in a job's log its bars stay at 0 %; "
            "from tqdm.auto import tqdm works in both"
        )
    views = {one.full.rpartition(".")[2]: one.line for one in uses.imports if one.full.startswith("IPython.display.")}
    if names := [name for name in views if name in _VIEWS]:
        yield (
            f"{text.at(views[name] for name in names)}: a job can't show {', '.join(names)}: have it write a file to "
            'os.environ["TASKAPI_OUTPUT_DIR"]'
        )


def _of_variables(text: Text, uses: Uses, absent: Collection[str], provider: str) -> Iterator[str]:
    read = {name: lines for name, lines in uses.variables().items() if name in absent}
    if not read:
        return
    names = list(read)[:_NAMES]
    if text.kind == "file":
        remedy = "give it in definition.env"
    else:
        remedy = f"give {' '.join(f'--env-var {name}=...' for name in names)}"
    if provider == "local":
        remedy += f", or environ: [{', '.join(names)}] in config.yaml"
    where = text.at(line for name in names for line in read[name])
    yield f"{where}: {_are(names)} set here, and a job will not have {'it' if len(names) == 1 else 'them'}: {remedy}"


def _are(names: list[str]) -> str:
    """Return names followed by "is" or "are"."""
    shown = ", ".join(names[:_NAMES]) + (", ..." if len(names) > _NAMES else "")
    return f"{shown} {'is' if len(names) == 1 else 'are'}"
