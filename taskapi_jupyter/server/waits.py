"""Which jobs and groups the cells of this server's kernels wait for: whoever waits in a cell needs no message."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

LASTS = 5.0  # seconds for which a wait counts after its last request: it looks once a second, pages a little later
MOST = 10_000  # jobs and groups that are remembered


class Waits:
    """Remembers when a kernel last asked for a job or a group because one of its cells waits for that.

    Not whether it has ended: a wait that is interrupted asks no more, and soon counts no more.
    """

    def __init__(self) -> None:
        self._asked: OrderedDict[tuple[str, str], float] = OrderedDict()

    @contextmanager
    def asking(self, env: str, one: str, kernel: str | None) -> Iterator[None]:
        """Note a request for a job or a group, for as long as it may be held; ``kernel``: whose cell waits, if any."""
        if kernel is None:
            yield
            return
        self._note(env, one)
        try:
            yield
        finally:
            self._note(env, one)

    def _note(self, env: str, one: str) -> None:
        self._asked[env, one] = time.monotonic()
        self._asked.move_to_end((env, one))
        while len(self._asked) > MOST:
            self._asked.popitem(last=False)

    def among(self, env: str, ids: Iterable[str]) -> list[str]:
        """Return those of some jobs and groups that a cell waits for, or did until just now."""
        since = time.monotonic() - LASTS
        return [one for one in ids if self._asked.get((env, one), 0.0) >= since]
