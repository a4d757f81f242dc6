"""The Server port: one whole server that a runtime can be opened for, wherever it runs."""

from __future__ import annotations

from typing import Protocol

from tinker_actors.ports.transport import Transport

__all__ = ["Server"]


class Server(Protocol):
    """Where requests go: ``open_runtime(server=...)`` needs no more."""

    @property
    def url(self) -> str:
        """Its base URL."""
        ...

    @property
    def key(self) -> str:
        """An API key that it takes."""
        ...

    def transport(self) -> Transport | None:
        """What carries requests to it and to nothing else; None where ``url`` is an address on the network."""
        ...
