"""All that a test's script may want, which runs in namespaces: ``from support.within import *``."""

# ruff: noqa: F401

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from support import PATIENCE, WAITING, request_for, until
from support.disks import fill, free_inodes, refused, take_inodes, until_refused
from support.homes import clean, commands, processes
from support.namespaces import children, mount
from support.servers import start_server, stop_server
from taskapi_jupyter.client.rest import Client
from taskapi_jupyter.core.errors import Damaged, Unavailable
from taskapi_jupyter.service.service import Service
