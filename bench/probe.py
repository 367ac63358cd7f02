"""A Jupyter server extension that measures delays of the event loop: ``GET /probe`` returns and resets the figures.

A callback is due every 5 ms; its delay is how long the loop was busy, with one callback or with a queue of them. Linux
says how long the thread was ready meanwhile and had no core: the rest of the delay is the server's own. The CPU time of
each callback shows whether a single one blocked all others.
"""

import asyncio
import json
import os
import threading
import time

import tornado.web
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join

EVERY = 0.005  # seconds


class Probe:
    """Keeps the longest delays, in milliseconds."""

    def __init__(self):
        self.schedstat = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        self.schedstat = os.open(self.schedstat, os.O_RDONLY) if os.path.exists(self.schedstat) else None
        self.watch_callbacks()
        self.reset()

    def reset(self):
        self.late, self.own, self.callback = [0.0], [0.0], [0.0]
        self.reading = True  # the callback that reads also sorts all figures: its own time does not count

    def watch_callbacks(self):
        run = asyncio.events.Handle._run

        def timed(handle):
            begin = time.thread_time()
            run(handle)
            if not self.reading:
                self.callback.append((time.thread_time() - begin) * 1e3)
            self.reading = False

        asyncio.events.Handle._run = timed

    def waited(self):
        """Return the seconds for which this thread was ready and had no core."""
        if self.schedstat is None:
            return 0.0
        return int(os.pread(self.schedstat, 100, 0).split()[1]) / 1e9

    async def run(self):
        while True:
            begin, waited = time.monotonic(), self.waited()
            await asyncio.sleep(EVERY)
            late = time.monotonic() - begin - EVERY
            self.late.append(late * 1e3)
            self.own.append(max(0.0, late - (self.waited() - waited)) * 1e3)

    def read(self):
        figures = {}
        for name in ("late", "own", "callback"):
            values = sorted(getattr(self, name))
            figures[name] = {"longest": values[-1], "p99": values[int(len(values) * 0.99)]}
        self.reset()
        return figures


class ProbeHandler(APIHandler):
    @tornado.web.authenticated
    async def get(self):
        self.finish(json.dumps(self.settings["probe"].read()))


def _load_jupyter_server_extension(serverapp):
    web = serverapp.web_app
    probe = web.settings["probe"] = Probe()
    web.settings["probing"] = asyncio.get_event_loop().create_task(probe.run())
    web.add_handlers(".*$", [(url_path_join(web.settings["base_url"], "probe"), ProbeHandler)])
