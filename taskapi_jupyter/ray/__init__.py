"""TaskAPI of a Ray cluster."""
