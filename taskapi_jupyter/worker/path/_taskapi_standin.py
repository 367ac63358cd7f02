"""Stand-ins for packages that a task's interpreter need not have: each gives way to one that it does have."""

import importlib.machinery
import importlib.util
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))


def give_way(name, last=None):
    """Load an installed package, else one in the folder ``last``, in place of its stand-in; whether there is one."""
    # Only as a last entry of sys.path does a stand-in lose by itself; through PYTHONPATH it is found first.
    others = [path for path in sys.path if os.path.realpath(path or os.curdir) != os.path.realpath(HERE)]
    others += [last] if last else []
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is None:
            continue
        spec = find(name, others) if finder is importlib.machinery.PathFinder else find(name, None)
        if spec is None or spec.loader is None or not spec.origin:
            continue  # not there, or only a folder of that name
        if os.path.realpath(spec.origin).startswith(os.path.join(os.path.realpath(HERE), "")):
            continue
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
        return True
    return False
