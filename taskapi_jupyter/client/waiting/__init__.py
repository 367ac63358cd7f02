"""Waits: for jobs, for groups, and what an interrupt prints of them."""
