"""What to write instead, where a line names a function of the notebook that isn't deployed."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from inspect import isfunction
from typing import Any


def as_function(word: str, variables: Mapping[str, Any]) -> str:
    """Return what deploys a function or class of the notebook; nothing where the word names none."""
    held = variables.get(word)
    if not callable(held):
        return ""
    what = "class" if isinstance(held, type) else "function"
    return f"; to deploy the {what} {word} of this notebook: %taskapi deploy {word} --function {word}"


def near_function(name: str, told: str, variables: Mapping[str, Any]) -> str:
    """Return the same for the function whose name is nearest, unless the environment told of an API that is near."""
    functions = [] if "did you mean" in told else [one for one, held in variables.items() if isfunction(held)]
    near = get_close_matches(name, functions, 1)
    if not near:
        return ""
    hint = as_function(near[0], variables)
    return hint if near[0] == name else f"; did you mean {near[0]}? T{hint.removeprefix('; t')}"
