"""TaskAPI on this machine, over a store of its own in ``TASKAPI_HOME``."""
