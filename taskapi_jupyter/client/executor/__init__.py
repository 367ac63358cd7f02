"""``concurrent.futures`` over jobs: an executor, its futures, and the thread that waits for them."""
