"""What runs in the task's own interpreter. Imports nothing of ours."""
