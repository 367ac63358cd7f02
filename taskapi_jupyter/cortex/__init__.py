"""The client's side of a Cortex cluster."""
