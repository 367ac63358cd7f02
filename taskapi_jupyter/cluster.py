"""TaskAPI of a Cortex cluster: its operator's, or a Jupyter server's proxy to it."""

from __future__ import annotations

from .client import Client
from .contract import Environment
from .upstream import Upstream


class CortexClient(Client):
    """Speaks to a cluster."""

    provider = "cortex"

    def __init__(self, base_url: str, token: str | None = None, *, environment: Environment) -> None:
        super().__init__(base_url, token, environment=environment.name)

    @classmethod
    def direct(cls, upstream: Upstream, environment: Environment) -> CortexClient:
        """Return one that speaks to the operator itself."""
        raise NotImplementedError
