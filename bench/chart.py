"""A chart of bars on a logarithmic scale, as SVG."""

import math
from collections.abc import Sequence
from html import escape

WIDTH, LEFT, RIGHT = 760, 290, 70  # pixels; the names stand left of the bars, the figures right
ROW, BAR, TOP = 44, 13, 64

#: Colours of its own, background included: whatever page it is on, text stands on what it was chosen for.
STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2328 }
.page { fill: #ffffff; stroke: #d0d7de }
.line { stroke: #d0d7de }
.first { fill: #5b7fb8 }
.result { fill: #b9cbe6 }
.name { text-anchor: end }
.mark { text-anchor: middle; font-size: 11px }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3 }
  .page { fill: #161a20; stroke: #3d444d }
  .line { stroke: #3d444d }
  .first { fill: #7f9fd0 }
  .result { fill: #3f5a86 }
}
"""


def multiple(figure: float) -> str:
    return f"{figure:.0f} ×" if figure >= 10 else f"{figure:.2g} ×"


def chart(bars: Sequence[tuple[str, float, float]]) -> str:
    """Return the drawing of some ways to run a job: the name of each, its first line and its result."""
    figures = [figure for _, *pair in bars for figure in pair]
    lowest = 10 ** math.floor(math.log10(min(figures)))
    decades = math.ceil(math.log10(max(figures) / lowest))

    def x(figure: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * math.log10(figure / lowest) / decades

    height = TOP + ROW * len(bars) + 8
    drawn = []
    for power in range(decades + 1):
        mark = lowest * 10**power
        drawn.append(f'<line class="line" x1="{x(mark):.1f}" y1="{TOP - 8}" x2="{x(mark):.1f}" y2="{height - 10}"/>')
        drawn.append(f'<text class="mark" x="{x(mark):.1f}" y="{TOP - 13}">{mark:g} ×</text>')
    for number, (name, *pair) in enumerate(bars):
        top = TOP + ROW * number
        drawn.append(f'<text class="name" x="{LEFT - 10}" y="{top + BAR + 4}">{escape(name)}</text>')
        for index, (kind, figure) in enumerate(zip(("first", "result"), pair, strict=True)):
            y = top + index * (BAR + 2)
            drawn.append(f'<rect class="{kind}" x="{LEFT}" y="{y}" width="{x(figure) - LEFT:.1f}" height="{BAR}"/>')
            drawn.append(f'<text x="{x(figure) + 5:.1f}" y="{y + BAR - 2}" font-size="11">{multiple(figure)}</text>')
    described = "; ".join(f"{name}: first line {first:.2g}, result {result:.2g}" for name, first, result in bars)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
            f'height="{height}" role="img">',
            "<title>From submission to the first line and to the result</title>",
            f"<desc>Multiples of a bare interpreter's first line. {escape(described)}.</desc>",
            f"<style>{STYLE}</style>",
            f'<rect class="page" x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1}" rx="6"/>',
            '<rect class="first" x="16" y="14" width="13" height="13"/>',
            '<text x="35" y="25">submission to the task’s first line</text>',
            '<rect class="result" x="260" y="14" width="13" height="13"/>',
            '<text x="279" y="25">submission to the result in the caller’s hand</text>',
            f'<text x="16" y="{TOP - 13}" font-size="11">1 × is a bare python -c "print(1)"</text>',
            *drawn,
            "</svg>\n",
        ]
    )
