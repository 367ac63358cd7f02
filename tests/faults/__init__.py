"""A fault harness: kills what runs jobs, at named points and at any instant, and counts what that cost."""
