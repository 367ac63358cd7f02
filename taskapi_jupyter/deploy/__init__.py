"""Deploy requests, made of cells, files and callables."""
