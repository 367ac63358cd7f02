"""The Jupyter server extension: the TaskAPI contract over HTTP."""
