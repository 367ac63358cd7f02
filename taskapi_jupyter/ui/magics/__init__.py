"""``%load_ext taskapi_jupyter``: the ``%taskapi`` magic for IPython."""

from .magic import TaskAPIMagics, load, unload

__all__ = ["TaskAPIMagics", "load", "unload"]
