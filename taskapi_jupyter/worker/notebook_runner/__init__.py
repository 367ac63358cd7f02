"""Runs a notebook's cells in a kernel of their own, and saves the notebook meanwhile. Imports nothing of ours but the
harness, whose folder is first on ``sys.path`` when this is imported.
"""
