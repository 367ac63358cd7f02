"""One attempt to send: what came of it, how long it may take, and what must not be shown of it."""

from __future__ import annotations

import base64
import re
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal
from urllib.parse import unquote

from taskapi_jupyter.display.formats import clean
from taskapi_jupyter.service.destinations import WEBHOOKS, Destination

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


def secrets_of(url: str, key: bytes | None) -> tuple[str, ...]:
    """Return what must not be shown of a URL: all but its scheme and a webhook's host; the longest first."""
    scheme, _, rest = url.partition("://")
    user, _, place = rest.rpartition("@")
    found = re.split(r"[/?#]", place, maxsplit=1)
    if scheme.lower() in WEBHOOKS:
        del found[0]  # what stands in its place for other services may be a token
    parts = {url, rest, user, *found, *(one for part in (user, *found) for one in re.split(r"[:/?&=#,;@]", part))}
    if key is not None:
        parts |= {key.decode("utf-8", "replace"), base64.b64encode(key).decode()}
    texts = {one for part in parts for one in (part, unquote(part))}
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
