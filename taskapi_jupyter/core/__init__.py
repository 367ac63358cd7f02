"""Words and helpers for all."""
