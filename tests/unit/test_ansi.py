"""Logs as HTML: colours that can be read in either theme, and nothing that a terminal or a browser obeys."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.markup import HOSTILE, Elements
from taskapi_jupyter.display.ansi import ansi_html, luminance

COLOUR = re.compile(r"(?:^|;)color:(#[0-9a-f]{6})")


def colours(html: str) -> list[str]:
    """Return the colours of a text, one for each span."""
    return [found[1] for name, css in Elements(html).attributes if name == "style" and (found := COLOUR.search(css))]


@pytest.mark.parametrize("foreign", HOSTILE, ids=range(len(HOSTILE)))
def test_foreign_text_stays_text(foreign: str) -> None:
    found = Elements(ansi_html(f"{foreign}\x1b[31m{foreign}"))
    assert set(found.tags) <= {"span"}
    assert {name for name, _ in found.attributes} <= {"style"}
    assert "\x1b" not in found.text
    ansi_html(foreign).encode()


@given(st.text(st.sampled_from(list("\x1b[]0123456789;:mK\r\n<>&\"'\x07\\ax\u202e\ud800"))))
def test_whatever_is_written_is_closed_and_harmless(text: str) -> None:
    found = Elements(ansi_html(text))
    assert set(found.tags) <= {"span"}
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f\u202a-\u202e\ud800]", found.text)


@pytest.mark.parametrize(
    "code", [*range(31, 37), *range(90, 97), *(f"38;5;{n}" for n in (1, 9, 16, 21, 46, 226, 231, 244))]
)
def test_each_colour_can_be_read_on_white_and_on_black(code: int | str) -> None:
    (colour,) = colours(ansi_html(f"\x1b[{code}mword"))
    bright = luminance(colour)
    assert 1.05 / (bright + 0.05) >= 3.9
    assert (bright + 0.05) / (luminance("#111111") + 0.05) >= 3.9


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_any_colour_can_be_read_on_white_and_on_black(rgb: tuple[int, int, int]) -> None:
    (colour,) = colours(ansi_html("\x1b[38;2;{};{};{}mword".format(*rgb)))
    assert 0.14 < luminance(colour) < 0.24


def test_words_stand_out_from_a_background_of_their_own() -> None:
    assert ansi_html("\x1b[48;2;255;255;255mx") == '<span style="background:#ffffff;color:#000000">x</span>'
    assert ansi_html("\x1b[48;5;17mx") == '<span style="background:#00005f;color:#ffffff">x</span>'


def test_a_style_lasts_over_lines_until_it_is_taken_back() -> None:
    assert ansi_html("a\x1b[1;3mb\nc\x1b[22md\x1b[me") == (
        'a<span style="font-weight:600;font-style:italic">b</span>\n'
        '<span style="font-weight:600;font-style:italic">c</span><span style="font-style:italic">d</span>e'
    )


def test_what_is_no_colour_leaves_nothing() -> None:
    assert ansi_html("a\x1b[2Kb\x1b[10;20Hc\x1b]0;title\x07d\x1b]8;;http://x\x1b\\e\x1b(Bf\x1b[") == "abcdef"
    assert ansi_html("\x1b[999;38;5m\x1b[?25lword") == "word"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10%\r20%\r30%", "30%"),
        ("10%\r20%\r\x1b[K", "20%"),
        ("a\r\nb\r\n", "a\nb\n"),
        ("\rone\r\rtwo\nnext", "two\nnext"),
        ("\r", ""),
    ],
)
def test_a_line_that_rewrites_itself_shows_its_last_version(text: str, shown: str) -> None:
    assert ansi_html(text) == shown
