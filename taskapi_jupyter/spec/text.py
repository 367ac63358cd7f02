"""YAML text into values, however the text was meant: an error of ours, and soon, for what can't be read."""

from __future__ import annotations

from typing import Any

import yaml

from taskapi_jupyter.errors import BadRequest, size

MAX_YAML = 1 << 20  # bytes
MAX_NUMBER = 400  # characters


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """PyYAML's safe loader, for numbers of a sensible length: ``1:1:1…``, to the base of 60, takes it minutes."""

    def construct_scalar(self, node: yaml.Node) -> Any:
        """Return a scalar's text."""
        if node.tag.endswith((":int", ":float")) and len(node.value) > MAX_NUMBER:
            raise yaml.constructor.ConstructorError(
                None, None, f"a number of {len(node.value)} characters", node.start_mark
            )
        return super().construct_scalar(node)


def load(text: str | bytes, what: str = "the configuration") -> Any:
    """Return what YAML text stands for; raise :class:`BadRequest` with line and column where it isn't any."""
    if len(text) > MAX_YAML:
        raise BadRequest(f"{what} is larger than {size(MAX_YAML)}")
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506  (a safe one)
    except yaml.YAMLError as error:
        mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise BadRequest(f"{what} is not valid YAML: {where}{problem or error}") from None
    except RecursionError:
        raise BadRequest(f"{what} is nested too deeply, or contains itself") from None
    except (ValueError, ArithmeticError) as error:  # the date 2020-13-40, a number beyond bounds
        raise BadRequest(f"{what} can't be read as YAML: {error}") from None
    except Exception:  # what PyYAML stumbles over: !!bool x is a KeyError, !!timestamp x an AttributeError
        raise BadRequest(f"{what} can't be read as YAML: it has a value that does not fit its tag") from None
