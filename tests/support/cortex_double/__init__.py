"""A double of a Cortex operator at the wire, in versions 0.28 and 0.42, with switches for what goes wrong."""

from .base import Request as Request
from .base import Socket as Socket
from .double import Operator as Operator
from .faults import Quirk as Quirk
from .state import Job as Job
