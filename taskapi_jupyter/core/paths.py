"""Where the files of this package are that other processes are started with. Standard library only."""

import os

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
WORKER = os.path.join(PACKAGE, "worker")  # the harness is imported from there, by path
TASK_PATH = os.path.join(WORKER, "path")  # stand-ins for packages that a task's interpreter need not have
