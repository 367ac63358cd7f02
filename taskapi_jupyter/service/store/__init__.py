"""The store: jobs and APIs in SQLite."""
