"""Which interpreter runs a task, and the packages that it has."""

#: Begins a PEP 723 block, by which a text says what it needs
BLOCK = "# /// script"
#: What ``requirements`` says instead of a file: that of the project, or nothing
AUTO, NONE = "auto", "none"
