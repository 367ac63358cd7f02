"""Draw the package's layers, as import-linter's contracts in pyproject.toml have them, as ``docs/images/layers.svg``.

``python scripts/layers.py`` writes the figure; ``make docs`` does so before it builds the pages.
"""

from __future__ import annotations

import sys
import textwrap
from html import escape
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # comes with sphinx, pytest and mypy

ROOT = Path(__file__).resolve().parent.parent
FIGURE = ROOT / "docs" / "images" / "layers.svg"
PACKAGE = "taskapi_jupyter"

WIDTH, GAP, PAD = 760, 12, 12  # pixels
TITLE, LINE = 20, 17  # heights of a box's title and of a line below it
CHARACTER = 6.9  # pixels that a character of a line takes, at most

#: Colours of its own, background included: whatever page it is on, text stands on what it was chosen for.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.name { font-weight: 600 }
.page { fill: #ffffff; stroke: #d0d7de }
.box { fill: #eef3fb; stroke: #5b7fb8 }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #161a20; stroke: #3d444d }
  .box { fill: #223047; stroke: #7f9fd0 }
}
"""


def contracts() -> list[dict[str, Any]]:
    """Return the contracts about layers."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return [one for one in settings["tool"]["importlinter"]["contracts"] if one["type"] == "layers"]


def side_by_side(layer: str) -> list[str]:
    """Return the modules of one layer, which don't import each other."""
    return [name.strip() for name in layer.split("|")]


def layers() -> tuple[list[list[str]], dict[str, str]]:
    """Return the package's layers from the top, and of each folder that has layers of its own those, as a line."""
    rows: list[list[str]] = []
    inner = {}
    for one in contracts():
        for container in one["containers"]:
            if container == PACKAGE:
                rows = [side_by_side(layer) for layer in one["layers"]]
            elif container.count(".") == 1:
                inner[container.removeprefix(f"{PACKAGE}.")] = " → ".join(
                    ", ".join(side_by_side(layer)) for layer in one["layers"]
                )
    return rows, inner


def figure() -> str:
    """Return the drawing as SVG."""
    rows, inner = layers()
    drawn, top = list[str](), float(PAD)
    for row in rows:
        width = (WIDTH - 2 * PAD - GAP * (len(row) - 1)) / len(row)
        texts = [textwrap.wrap(inner.get(name, ""), int((width - 2 * PAD) / CHARACTER)) for name in row]
        height = PAD + TITLE + LINE * max(map(len, texts))
        for index, (name, lines) in enumerate(zip(row, texts, strict=True)):
            left = PAD + index * (width + GAP)
            drawn.append(f'<rect class="box" x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="5"/>')
            drawn.append(f'<text class="name" x="{left + PAD:g}" y="{top + TITLE:g}">{escape(name)}</text>')
            for number, text in enumerate(lines, 1):
                y = top + TITLE + LINE * number
                drawn.append(f'<text x="{left + PAD:g}" y="{y:g}">{escape(text)}</text>')
        top += height + GAP
    height = top - GAP + PAD
    described = "; ".join(" and ".join(row) for row in rows)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" '
            f'height="{height:g}" role="img">',
            f"<title>The layers of {PACKAGE}</title>",
            f"<desc>From the top, each imports only from those below: {escape(described)}.</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="6"/>',
            *drawn,
            "</svg>\n",
        ]
    )


if __name__ == "__main__":
    FIGURE.write_text(figure(), "utf-8")
