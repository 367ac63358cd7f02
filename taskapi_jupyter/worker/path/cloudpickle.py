"""``cloudpickle`` in an interpreter that has not installed it: the one of the side that deployed."""

import os
import sys

from _taskapi_standin import give_way

# Where the harness says, and, in a process that the task starts, the process that imported it here.
_folder = getattr(sys, "_taskapi_cloudpickle", None) or os.environ.get("TASKAPI_CLOUDPICKLE")
if not give_way(__name__, _folder):
    raise ModuleNotFoundError("No module named 'cloudpickle'", name=__name__)
if sys.modules[__name__].__file__ != __file__ and _folder and sys.modules[__name__].__file__.startswith(_folder):
    os.environ["TASKAPI_CLOUDPICKLE"] = _folder
