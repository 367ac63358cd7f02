"""``taskapi_jupyter`` in an interpreter that has not installed it: the way to ``taskapi_jupyter.job``."""

import os

from _taskapi_standin import give_way

if not give_way(__name__):
    __path__ = [os.path.abspath(os.path.join(__file__, *[os.pardir] * 4))]
