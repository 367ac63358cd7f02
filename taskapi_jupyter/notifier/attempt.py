"""One attempt to send: what came of it, how long it may take, and what must not be shown of it."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from taskapi_jupyter.display.formats import clean
from taskapi_jupyter.service.destinations import Destination

SECONDS = 15.0  # that an attempt may take
KEPT = 1000  # characters of an answer that are kept

_SHORTEST = 5  # characters of a part of a URL that is hidden


@dataclass
class Target:
    """A name with all that is needed to send, read now."""

    name: str
    destination: Destination
    url: str
    key: bytes | None = None  # what a webhook is signed with
    hidden: tuple[str, ...] = ()  # texts that must not be shown

    def masked(self, text: str) -> str:
        """Return a text on one line without what is secret, cut to what is kept."""
        for secret in self.hidden:
            text = text.replace(secret, "***")
        return clean(text)[:KEPT]


@dataclass
class Outcome:
    """What came of an attempt: ``gone`` where the receiver wants nothing more, ``failed`` where no other may help."""

    state: Literal["sent", "again", "failed", "gone"]
    answer: str
    after: float = 0.0  # seconds before which the receiver wants no other attempt


def secrets_of(url: str, *more: str | None) -> tuple[str, ...]:
    """Return what must not be shown of a URL: all but its scheme and host, whole and in parts; the longest first."""
    rest = url.partition("://")[2]
    user, at, place = rest.rpartition("@")
    path = re.split(r"[/?#]", place, maxsplit=1)
    parts = {url, rest, user, *re.split(r"[:/?&=#,;]", user), *path[1:], *re.split(r"[/?&=#,;]", "/".join(path[1:]))}
    texts = {one for part in (*parts, *filter(None, more)) for one in (part, unquote(part))}
    return tuple(sorted((one for one in texts if len(one) >= _SHORTEST), key=len, reverse=True))


def within(seconds: float, call: Callable[[], Outcome], so_far: Callable[[], Outcome | None]) -> Outcome:
    """Return what a call returns, or after so many seconds ``so_far``; it is then left behind in its thread."""
    found: list[Outcome] = []
    thread = threading.Thread(target=lambda: found.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    return next(iter(found), None) or so_far() or Outcome("again", f"no answer within {seconds:g} s")


def texts(parts: Iterable[str | None]) -> str:
    """Return some texts with a colon between them."""
    return ": ".join(filter(None, parts))
