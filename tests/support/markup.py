"""HTML as a browser reads it, and texts that try to be more than text."""

from __future__ import annotations

from html.parser import HTMLParser

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>' onmouseover='x",
    "\x1b[31mred\x1b[0m\x07",
    "two\nlines\r\nand\ttabs",
    "\u202egnp.exe \u2066isolate",
    "&amp;&lt;b&gt;",
    "\ud800 lone",
    "x" * 5000,
    "</style></div></table>",
    "日本語の名前",
]


class Elements(HTMLParser):
    """Collects tags, attributes and text, and checks that tags are closed in order."""

    VOID = {"br", "img", "meta", "link", "input", "hr"}

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(self.words)
