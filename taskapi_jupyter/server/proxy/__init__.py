"""Requests that are passed on to a Cortex cluster."""
