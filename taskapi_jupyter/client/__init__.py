"""What user code holds: TaskAPI, jobs, and how they are reached over HTTP."""
