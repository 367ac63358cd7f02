"""Brings what a function took along of its notebook into its task, and into the processes that the task starts."""

import linecache
import os
import pickle
import sys

#: The cells that the functions come from: what their code has as its file.
cells = []


def load(namespace):
    """Load ``task.pkl`` into the module whose names these are, which is or becomes ``__main__``; return the task."""
    main = sys.modules["__main__"]
    # Functions get the names of what is __main__ now; in a process of multiprocessing's that is not us yet.
    sys.modules["__main__"] = sys.modules[namespace["__name__"]]
    try:
        with open(os.path.join(os.path.dirname(namespace["__file__"]), "task.pkl"), "rb") as pickled:
            task, names, sources = pickle.load(pickled)  # noqa: S301 - the notebook's own
    finally:
        sys.modules["__main__"] = main
    namespace.update(names)
    for cell, text in sources.items():
        linecache.cache[cell] = len(text), None, text.splitlines(True), cell
        cells.append(cell)
    return task
