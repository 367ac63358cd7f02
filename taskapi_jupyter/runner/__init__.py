"""The processes beside a job, from the fork to its outcome. Standard library only."""
