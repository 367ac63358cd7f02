"""What a job aboard a node says in the midst of its output: taken apart again wherever the stream is cut."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from taskapi_jupyter.node.frames import Reader, frame, output

WORD = "0123456789abcdef"
PARTS = st.lists(
    st.one_of(
        st.binary(max_size=40),
        st.sampled_from([b"\x1e", b"\x1e" + WORD[:9].encode(), b"\n", b'\x1e0000{"outcome": {}}\n']),
        st.fixed_dictionaries({"progress": st.text(max_size=20)}),
        st.fixed_dictionaries({"skip": st.integers(0, 1 << 40)}),
    ),
    max_size=12,
)


def taken_apart(chunks: list[bytes]) -> list[bytes | dict[str, Any]]:
    """Return what a reader yields, with output that stands together put together."""
    reader = Reader(WORD)
    found: list[bytes | dict[str, Any]] = []
    for chunk in chunks:
        for value in reader.feed(chunk):
            last = found[-1] if found else None
            if isinstance(value, bytes) and isinstance(last, bytes):
                found[-1] = last + value
            else:
                found.append(value)
    return found


@given(PARTS, st.integers(1, 50))
def test_wherever_it_is_cut(parts: list[bytes | dict[str, Any]], size: int) -> None:
    end: list[bytes | dict[str, Any]] = [{"outcome": {"status": "succeeded"}}]
    stream = b"Ray's own words\n" + frame(WORD, {"begin": "it"})
    expected: list[bytes | dict[str, Any]] = [{"begin": "it"}]
    for part in [*parts, *end]:
        stream += part if isinstance(part, bytes) else frame(WORD, part)
        if isinstance(part, bytes) and isinstance(expected[-1], bytes):
            expected[-1] += part
        elif part:
            expected.append(part)
    assert taken_apart([stream[at : at + size] for at in range(0, len(stream), size)]) == expected


@given(st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"\r", b"50%\r" * 9, b"\xff" * 50, "é…".encode()]))))
def test_output_comes_through_what_carries_text_alone(parts: list[bytes]) -> None:
    data = b"".join(parts)
    carried = output(WORD, data)
    assert b"\r" not in carried
    assert carried.decode().encode() == carried
    # What ends with the beginning of a frame is known for output once something more comes: the outcome does.
    stream = frame(WORD, {"begin": "it"}) + carried + frame(WORD, {"outcome": {}})
    assert b"".join(one for one in taken_apart([stream])[1:] if isinstance(one, bytes)) == data


def test_a_frame_that_is_too_long_is_none() -> None:
    stream = frame(WORD, {"begin": "it"}) + b"before" + frame(WORD, {"progress": "x" * (1 << 17)}) + b"after\n"
    stream += frame(WORD, {"outcome": {}})
    for size in (1000, 1 << 16, len(stream)):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert taken_apart(chunks) == [{"begin": "it"}, b"beforeafter\n", {"outcome": {}}]


def test_what_is_torn_is_left_out() -> None:
    torn = frame(WORD, {"outcome": {"status": "succeeded"}})[:25]
    stream = frame(WORD, {"begin": "it"}) + torn + b"\n" + frame(WORD, {"outcome": {"status": "stopped"}})
    assert taken_apart([stream]) == [{"begin": "it"}, {"outcome": {"status": "stopped"}}]
