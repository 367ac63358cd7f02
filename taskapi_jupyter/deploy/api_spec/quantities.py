"""Quantities as people write them: ``200m`` of a CPU, ``500Mi`` of memory (Kubernetes' forms), ``1h30m`` of time."""

from __future__ import annotations

import math
import re
from decimal import ROUND_CEILING, Decimal
from typing import Any

from taskapi_jupyter.core.errors import BadRequest

MAX_CPU = 10**9  # millicores
MAX_BYTES = 2**63 - 1
MAX_SECONDS = 10**9
_LEAST_BARE = 2**20  # bytes of memory; a smaller number must have a unit

_DECIMAL = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DURATION = re.compile(r"(\d{1,10})|(?:(\d{1,10})d)?(?:(\d{1,10})h)?(?:(\d{1,10})m)?(?:(\d{1,10})s)?", re.ASCII)
_NUMBER = re.compile(r"\+?((?:\d{1,30})(?:\.\d{0,30})?|\.\d{1,30})([eE][+-]?\d{1,2})?([A-Za-z]*)", re.ASCII)


def parse_cpu(value: Any, path: str = "compute.cpu") -> int:
    """Return millicores: ``"200m"``, ``1``, ``0.5`` and ``"2"`` are 200, 1000, 500 and 2000."""
    wanted = 'a number of CPUs such as 1, 0.5 or "200m"'
    number, suffix = _split(value, path, wanted)
    if suffix not in ("", "m"):
        raise _refused(value, path, wanted)
    return _whole(number * (1 if suffix else 1000), value, path, wanted, MAX_CPU)


def parse_bytes(value: Any, path: str = "compute.mem") -> int:
    """Return bytes: ``"1Gi"`` is 2**30, ``"1G"`` is 10**9, ``1024`` is itself."""
    wanted = 'bytes, as a whole number or with one of K M G T Ki Mi Gi Ti, such as "500Mi"'
    number, suffix = _split(value, path, wanted)
    factor = _DECIMAL.get(suffix) or _BINARY.get(suffix)
    if factor is None:
        raise _refused(value, path, wanted)
    return _whole(number * factor, value, path, wanted, MAX_BYTES)


def parse_memory(value: Any, path: str = "compute.mem") -> int:
    """Return bytes like :func:`parse_bytes`, but refuse a small number without a unit: it was probably forgotten."""
    count = parse_bytes(value, path)
    if count < _LEAST_BARE and not str(value).strip()[-1:].isalpha():
        unit = "Gi" if count <= 64 else "Mi"
        hint = f"; {value}{unit}?" if count <= 65_536 else ", such as 512Mi or 4Gi"
        raise BadRequest(f"{path} must have a unit: {value} is a number of bytes{hint}")
    return count


def parse_seconds(value: Any, path: str = "timeout", least: int = 1) -> int:
    """Return whole seconds: ``90`` and ``"90"`` are 90, ``"15m"`` is 900, ``"1h30m"`` is 5400; ``d`` is days."""
    if isinstance(value, int) and abs(value) > MAX_BYTES:
        raise BadRequest(f"{path} is too large")  # str() of such a number may even be forbidden
    text = str(value).strip() if isinstance(value, int | str) and not isinstance(value, bool) else ""
    match = _DURATION.fullmatch(text) if text else None
    if match is None:
        raise _refused(value, path, "a time such as 90 (seconds), 90s, 15m or 1h30m")
    bare, days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    total = bare + ((days * 24 + hours) * 60 + minutes) * 60 + seconds
    if not least <= total <= MAX_SECONDS:
        raise BadRequest(f"{path} must be from {least} to {MAX_SECONDS} seconds, not {text}")
    return total


def format_cpu(millicores: int) -> str:
    """Write millicores the way Kubernetes does: whole CPUs without a suffix."""
    return f"{millicores}m" if millicores % 1000 else str(millicores // 1000)


def format_bytes(count: int) -> str:
    """Write bytes exactly, with the largest suffix that fits."""
    for suffix, factor in reversed([*_BINARY.items()]):
        if count % factor == 0:
            return f"{count // factor}{suffix}"
    for suffix in ("T", "G", "M", "K"):
        if count % _DECIMAL[suffix] == 0:
            return f"{count // _DECIMAL[suffix]}{suffix}"
    return str(count)


def _split(value: Any, path: str, wanted: str) -> tuple[Decimal, str]:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise _refused(value, path, wanted)
    if isinstance(value, float) and not math.isfinite(value):
        raise _refused(value, path, wanted)
    # More digits than the pattern has room for are no quantity; str() of such an int may even be forbidden.
    if isinstance(value, int) and abs(value) > MAX_BYTES:
        raise BadRequest(f"{path} is too large")
    match = _NUMBER.fullmatch(str(value).strip())
    if match is None:
        raise _refused(value, path, wanted)
    digits, exponent, suffix = match.groups()
    return Decimal(digits + (exponent or "")), suffix


def _whole(number: Decimal, value: Any, path: str, wanted: str, most: int) -> int:
    whole = int(number.to_integral_value(rounding=ROUND_CEILING))  # as Kubernetes rounds: up
    if whole <= 0:
        raise _refused(value, path, wanted + ", more than 0")
    if whole > most:
        raise BadRequest(f"{path} is too large: {value}")
    return whole


def _refused(value: Any, path: str, wanted: str) -> BadRequest:
    shown = repr(value)
    return BadRequest(f"{path} must be {wanted}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")
