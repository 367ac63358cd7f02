"""Serve the double until interrupted; the first line of output is its URL."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # started with -m or by its folder's name

from cortex_double import Operator

parser = argparse.ArgumentParser(prog="cortex_double", description=__doc__)
parser.add_argument("--version", default="0.42.1", help="of the cluster; 0.28.0 or 0.42.1")
parser.add_argument("--port", type=int, default=0, help="of the operator; a free one")
parser.add_argument("--balancer-port", type=int, default=0, help="of the API load balancer; a free one")
parser.add_argument("--set", action="append", default=[], metavar="NAME=JSON", help="a switch, such as lag=2")
parser.add_argument("--api", action="append", default=[], metavar="NAME", help="deploy a task API of that name")
arguments = parser.parse_args()

switches = {name: json.loads(value) for name, _, value in (one.partition("=") for one in arguments.set)}
signals = {signal.SIGINT, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the thread starts, which inherits it
with Operator(arguments.version, port=arguments.port, balancer_port=arguments.balancer_port, **switches) as operator:
    for name in arguments.api:
        operator.deploy(name)
    print(operator.url, flush=True)
    signal.sigwait(signals)
