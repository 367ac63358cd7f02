"""Static analysis of a task's source: its free names, imports, calls and environment variables."""

from __future__ import annotations

import ast
import builtins
import warnings
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

MAX_TEXT = 100_000  # characters, analysed within half a second; a longer text is not analysed

#: What IPython adds to the builtins of its own process.
IPYTHON = frozenset(("display", "get_ipython", "__IPYTHON__"))


def parse(text: str) -> ast.Module | None:
    """Parse a text; None if it is invalid: the deploy itself reports that."""
    if len(text) > MAX_TEXT:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def free_names(tree: ast.Module) -> dict[str, int]:
    """Return the names that a module uses but neither defines nor imports, each with the line of its first use."""
    from pyflakes import checker, messages

    try:
        found = [
            (one.lineno, one.col, str(one.message_args[0]))
            for one in checker.Checker(tree).messages
            if isinstance(one, messages.UndefinedName)
        ]
    except Exception:  # pyflakes fails on code that is nested deeply; a warning is not worth an error
        found = []
    nodes = _in_order(tree)
    only_ipython = IPYTHON - set(_bound(nodes)) - {one.name for one in _imported(nodes)}
    found += [
        (node.lineno, node.col_offset, node.id)
        for node in nodes
        if isinstance(node, ast.Name) and node.id in only_ipython
    ]
    lines: dict[str, int] = {}
    for line, _, name in sorted(found):
        lines.setdefault(name, line)
    return lines


class Import(NamedTuple):
    """One imported name."""

    full: str
    name: str  #: that the text has for it
    stands_for: str  #: the full name of that
    line: int


class Uses:
    """The imports, calls and reads of variables in a text, by the full names of what they use.

    ``known`` has names that the text gets from elsewhere, each with its full name.
    """

    def __init__(self, tree: ast.Module, known: Mapping[str, str]) -> None:
        self._nodes = _in_order(tree)
        self._bound = _bound(self._nodes)
        self.imports = list(_imported(self._nodes))
        self._aliases = {**known, **{one.name: one.stands_for for one in self.imports}}
        self._follow_assignments()

    def _follow_assignments(self) -> None:
        """Treat a name that is assigned once, as in ``env = os.environ``, as the thing assigned."""
        for node in self._nodes:
            if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
                name = node.targets[0].id
                full = self.full_name(node.value)
                if full and self._bound[name] == 1 and name not in self._aliases:
                    self._aliases[name] = full
                    del self._bound[name]

    def full_name(self, node: ast.AST) -> str:
        """Return the full name of what an expression such as ``o.environ`` stands for; empty text if unknown."""
        first, *rest = _dotted(node) or [""]
        if first in self._bound:
            return ""  # it may be anything
        if first in self._aliases:
            return ".".join([self._aliases[first], *rest]) if self._aliases[first] else ""
        return first if not rest and hasattr(builtins, first) else ""

    def calls(self, functions: Collection[str]) -> dict[str, list[int]]:
        """Return the calls of some functions, as they are written in the text, each with its lines."""
        found: dict[str, list[int]] = {}
        for node in self._nodes:
            if isinstance(node, ast.Call) and self.full_name(node.func) in functions:
                found.setdefault(".".join(_dotted(node.func)) + "()", []).append(node.lineno)
        return found

    def variables(self) -> dict[str, list[int]]:
        """Return the environment variables that are read and not set, each with its lines."""
        read: dict[str, list[int]] = {}
        written: set[object] = set()
        for node in self._nodes:
            if isinstance(node, ast.Subscript) and self.full_name(node.value) == "os.environ":
                name, reads = node.slice, isinstance(node.ctx, ast.Load)
            elif isinstance(node, ast.Call) and node.args:
                function = self.full_name(node.func)
                if function not in (*_READS, *_WRITES):
                    continue
                name, reads = node.args[0], function in _READS
            elif isinstance(node, ast.Compare) and self.full_name(node.comparators[0]) == "os.environ":
                name, reads = node.left, isinstance(node.ops[0], ast.In | ast.NotIn)
            else:
                continue
            value = constant(name)
            if not reads:
                written.add(value)
            elif isinstance(value, str):
                read.setdefault(value, []).append(node.lineno)
        return {name: lines for name, lines in read.items() if name not in written}


_READS = ("os.getenv", "os.environ.get", "os.environ.pop")
_WRITES = ("os.putenv", "os.environ.setdefault")


def main_blocks(tree: ast.Module) -> list[int]:
    """Return the lines of ``if __name__ == "__main__"`` at the top level of a module."""
    lines = []
    for node in tree.body:
        test = getattr(node, "test", None)
        if isinstance(node, ast.If) and isinstance(test, ast.Compare) and isinstance(test.ops[0], ast.Eq):
            sides = [test.left, *test.comparators]
            if [one for one in sides if _dotted(one) == ["__name__"]] and "__main__" in map(constant, sides):
                lines.append(node.lineno)
    return lines


def constant(node: ast.AST) -> object:
    """Return the value of a literal, None for other expressions."""
    return node.value if isinstance(node, ast.Constant) else None


def _in_order(tree: ast.Module) -> list[Any]:
    """Return the nodes that have a line number, in the order of the text."""
    placed: list[Any] = [node for node in ast.walk(tree) if hasattr(node, "lineno")]
    return sorted(placed, key=lambda node: (node.lineno, node.col_offset))


def _imported(nodes: list[Any]) -> Iterator[Import]:
    for node in nodes:
        if isinstance(node, ast.Import):
            for one in node.names:
                package = one.name.partition(".")[0]
                yield Import(one.name, one.asname or package, one.name if one.asname else package, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            for one in node.names:
                full = f"{'.' * node.level}{node.module or ''}.{one.name}"
                yield Import(full, one.asname or one.name, full, node.lineno)


def _bound(nodes: list[Any]) -> Counter[str]:
    """Return the names that are bound by anything but an import, and how often."""
    names: Counter[str] = Counter()
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            names[node.id] += 1
        elif isinstance(node, ast.arg):
            names[node.arg] += 1
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names[node.name] += 1
    return names


def _dotted(node: ast.AST) -> list[str]:
    """Return the parts of a name such as ``os.environ.get``; none for other expressions."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return [node.id, *reversed(parts)] if isinstance(node, ast.Name) else []
