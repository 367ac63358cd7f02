"""Rules for what goes wrong with an answer, whatever it would have been."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

DEFAULTS: dict[str, Any] = {
    "delay": 1.0,  # seconds before the answer
    "hang": None,  # no answer, ever
    "reset": "before",  # RST in place of an answer, or once its headers are out ("headers")
    "half": None,  # half of the announced body, then the end of the connection
    "wrong_json": b'{"job_status": {"job_id": ',  # bytes as they are, or any value as JSON; with status 200
    "big": 10 << 20,  # bytes of white space behind the body
    "redirect": "http://redirected.invalid/",  # 302 to there
    "cookies": "cortex=1; Path=/",  # a Set-Cookie header
    "chunked": None,  # chunks in place of a Content-Length
}


@dataclass
class Quirk:
    """One kind of fault, for the requests that begin with a path."""

    kind: str
    value: Any = None
    path: str = "/"
    method: str = ""  # any
    times: float = math.inf

    def __post_init__(self) -> None:
        """Refuse an unknown kind, and fill in the usual value."""
        if self.value is None:
            self.value = DEFAULTS[self.kind]

    def takes(self, method: str, path: str) -> bool:
        """Return whether it strikes at a request; that counts as one time."""
        if self.times < 1 or not path.startswith(self.path) or self.method not in ("", method):
            return False
        self.times -= 1
        return True
