"""YAML text into values; for any invalid text a :class:`BadRequest`, and in a short time."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from taskapi_jupyter.core import nesting
from taskapi_jupyter.core.errors import BadRequest, size

if TYPE_CHECKING:
    import yaml

MAX_YAML = 1 << 20  # bytes
MAX_NUMBER = 400  # characters


@lru_cache(maxsize=1)
def _loader() -> Any:
    """Return PyYAML's safe loader with a limit for the length of numbers: a long ``1:1:1…``, in base 60, takes minutes.

    Made when first used: most homes have no file in YAML, and PyYAML takes time to import.
    """
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        def construct_scalar(self, node: yaml.Node) -> Any:
            if node.tag.endswith((":int", ":float")) and len(node.value) > MAX_NUMBER:
                raise yaml.constructor.ConstructorError(
                    None, None, f"a number of {len(node.value)} characters", node.start_mark
                )
            return super().construct_scalar(node)

    return Loader


def load(text: str | bytes, what: str = "the configuration") -> Any:
    """Return the value of YAML text; raise :class:`BadRequest` with line and column if it is invalid."""
    if len(text) > MAX_YAML:
        raise BadRequest(f"{what} is larger than {size(MAX_YAML)}")
    if not text:
        return None
    import yaml

    try:
        _check_depth(text)
        return yaml.load(text, Loader=_loader())  # noqa: S506  (a safe one)
    except nesting.TooDeep as error:
        raise BadRequest(f"{what} is {error}, or contains itself") from None
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadRequest(f"{what} is not valid YAML: {where}{problem or error}") from None
    except (ValueError, ArithmeticError) as error:  # the date 2020-13-40, a number beyond bounds
        raise BadRequest(f"{what} can't be read as YAML: {error}") from None
    except Exception:  # what PyYAML stumbles over: !!bool x is a KeyError, !!timestamp x an AttributeError
        raise BadRequest(f"{what} can't be read as YAML: it has a value that does not fit its tag") from None


def dump(value: Any) -> str:
    """Return the YAML text of a value of plain types."""
    import yaml

    return str(yaml.safe_dump(value, sort_keys=False))


def _check_depth(text: str | bytes) -> None:
    """Raise :class:`nesting.TooDeep` for too many levels, counting what aliases stand for."""
    import yaml

    most = nesting.MAX_DEPTH + nesting.ENVELOPE
    open_: list[tuple[str | None, int]] = []  # each with its anchor, and how many levels are in it so far
    heights: dict[str, int] = {}

    def add(height: int) -> None:
        if len(open_) + height > most:
            raise nesting.TooDeep
        if open_:
            anchor, so_far = open_[-1]
            open_[-1] = (anchor, max(so_far, height))

    for event in yaml.parse(text, Loader=_loader()):
        if isinstance(event, yaml.events.CollectionStartEvent):
            if event.anchor:
                heights[event.anchor] = most  # until it ends: it must not contain itself
            open_.append((event.anchor, 0))
            add(0)
        elif isinstance(event, yaml.events.CollectionEndEvent):
            anchor, height = open_.pop()
            if anchor:
                heights[anchor] = height + 1
            add(height + 1)
        elif isinstance(event, yaml.events.AliasEvent):
            add(heights.get(event.anchor or "", 0))
