"""Makes deploy requests of cells, files and callables."""
