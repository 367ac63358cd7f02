"""``taskapi_jupyter`` in an interpreter that has not installed it: ``taskapi_jupyter.job``, and ``task``."""

import os

from _taskapi_standin import give_way

if not give_way(__name__):
    __path__ = [os.path.abspath(os.path.join(__file__, *[os.pardir] * 4))]

    def task(function=None, **options):
        """Leave a function of a module as it is: in a job, it is a plain one."""
        return function if function is not None else lambda one: one
