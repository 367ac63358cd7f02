"""API configurations in the shapes of Cortex 0.28 and 0.42, checked and turned into all that starting a job takes.

Beyond Cortex's keys there are, at the top, ``timeout`` and ``run_timeout`` (seconds since a job's submission and since
its start, the defaults of every job) and ``python`` (an interpreter other than the deploying kernel's), and in
``definition``, ``function`` (which of the file's callables is the task), ``python_version`` (the minor version that
pickled a callable) and ``parameters`` (shown in answers; in a request it counts for a pickled callable alone).
``networking.endpoint`` is kept as it was written; the default is the API's name. ``compute`` is shown with Kubernetes'
suffixes; the default is one CPU.
"""
