"""What a home's engine is told, ``engine.json``. Standard library only."""

from __future__ import annotations

import json
import os
from typing import Any

from . import plainfile

NAME = "engine.json"  # of a home; without one its jobs run on this machine


def read(home: str) -> dict[str, Any]:
    """Return what a home's engine is told: its provider, and what else that needs."""
    try:
        return dict(json.loads(plainfile.read(os.path.join(home, NAME), 1 << 20)))
    except FileNotFoundError:
        return {"provider": "local"}
