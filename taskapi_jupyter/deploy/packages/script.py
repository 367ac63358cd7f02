"""A PEP 723 block, ``# /// script``, by which a file, a cell or a notebook says what it needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from taskapi_jupyter.core.errors import BadRequest
from taskapi_jupyter.deploy.values import shorten

from . import BLOCK, toml
from .requirements import Asked, check_url

_END = "# ///"
_OF_UV = ("index", "index-url", "extra-index-url", "find-links", "no-index", "exclude-newer")


def read(text: str, shown: str, folder: str, environ: Mapping[str, str]) -> Asked | None:
    """Return what the block of a text asks for, None where there is none.

    ``shown`` is the text's name in sentences, ``folder`` that from which paths count. Raises :class:`BadRequest` for
    two blocks, for one that is not closed, and for what is wrong within one, with its line.
    """
    lines = text.splitlines()
    begins = [number for number, line in enumerate(lines) if line.rstrip() == BLOCK]
    if not begins:
        return None
    if len(begins) > 1:
        numbers = " and ".join(str(number + 1) for number in begins[:2])
        raise BadRequest(f"{shown} has two blocks {BLOCK}, in lines {numbers}: put them together")
    first, content = begins[0] + 1, []
    for line in lines[first:]:
        if line.rstrip() == _END:
            break
        if line.rstrip() != "#" and not line.startswith("# "):
            raise _not_closed(shown, first)
        content.append(line[2:])
    else:
        raise _not_closed(shown, first)
    return _asked(toml.read("\n".join(content), shown, first + 1), f"{shown}, {BLOCK}", folder, environ)


def of_notebook(
    cells: Sequence[str], shown: str, folder: str, environ: Mapping[str, str]
) -> tuple[Asked | None, list[str]]:
    """Return what the first code cell of a notebook asks for, and a warning for each other cell with a block."""
    asked = read(cells[0], f"{shown}, code cell 1", folder, environ) if cells else None
    return asked, [
        f"{shown}, code cell {number}: its block {BLOCK} is ignored: only that of the first code cell is read"
        for number, cell in enumerate(cells[1:], 2)
        if any(line.rstrip() == BLOCK for line in cell.splitlines())
    ]


def _not_closed(shown: str, line: int) -> BadRequest:
    return BadRequest(f"{shown}, line {line}: the block {BLOCK} is not closed: end it with a line {_END}")


def _asked(table: dict[str, object], shown: str, folder: str, environ: Mapping[str, str]) -> Asked:
    asked = Asked()
    if (python := table.get("requires-python")) is not None:
        asked.python.append(toml.python_versions(python, f"{shown}: requires-python"))
    for one in toml.texts(table.get("dependencies"), f"{shown}: dependencies"):
        asked.require(one.strip(), shown)
    of_uv = toml.get(table, "tool", "uv")
    if of_uv is None:
        return asked
    if not isinstance(of_uv, dict):
        raise BadRequest(f"{shown}: tool.uv must be a table, not {shorten(of_uv)}")
    if of_uv.get("sources"):
        raise BadRequest(f"{shown}: tool.uv.sources is not taken: a job gets packages of an index alone")
    toml.index(of_uv, shown, asked.index, folder, environ)
    for url in (asked.index.index_url or "", *asked.index.extra_index_urls, *asked.index.find_links):
        check_url(url, shown)
    if (newest := of_uv.get("exclude-newer")) is not None:
        asked.exclude_newer = newest.isoformat() if hasattr(newest, "isoformat") else str(newest)
    if others := [key for key in of_uv if key not in (*_OF_UV, "sources")]:
        asked.warnings.append(f"{shown}: tool.uv.{', tool.uv.'.join(others)[:200]} is ignored")
    return asked
