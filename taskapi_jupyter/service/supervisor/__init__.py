"""The one process of a home that starts jobs and records what happened to them."""
