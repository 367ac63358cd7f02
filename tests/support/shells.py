"""What runs a cell in a shell of IPython, and what the cell did."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass
class Ran:
    """What a cell did."""

    result: Any
    error: BaseException | None
    out: str
    err: str
    displayed: str

    def value(self) -> Any:
        """Return the cell's value; raise where it failed."""
        if self.error:
            raise self.error
        return self.result


Run = Callable[[str], Ran]
