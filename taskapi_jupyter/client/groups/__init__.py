"""Groups: jobs that were submitted together, what makes their configs, and the table of their results."""
