"""Hints for a line that names a function of the notebook which isn't deployed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from inspect import isfunction
from typing import Any


def as_function(word: str, variables: Mapping[str, Any]) -> str:
    """Return a hint how to deploy the function or class that a word names; nothing where it names none."""
    held = variables.get(word)
    if not callable(held):
        return ""
    what = "class" if isinstance(held, type) else "function"
    return f"; to deploy the {what} {word} of this notebook: %taskapi deploy {word} --function {word}"


def near_function(name: str, told: str, variables: Mapping[str, Any]) -> str:
    """Return that hint for the function with the closest name, unless the error already suggests an API."""
    functions = [] if "did you mean" in told else [one for one, held in variables.items() if isfunction(held)]
    near = get_close_matches(name, functions, 1)
    if not near:
        return ""
    hint = as_function(near[0], variables)
    return hint if near[0] == name else f"; did you mean {near[0]}? T{hint.removeprefix('; t')}"
