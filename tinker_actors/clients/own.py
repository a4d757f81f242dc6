"""The training clients of a runtime that are there, each with the ServiceClient that it came from."""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, final

from trio_util import AsyncValue

from supervision import ActorRef
from tinker_actors.ledger import Ledger

if TYPE_CHECKING:
    from tinker_actors.clients.service import ServiceClient
    from tinker_actors.clients.training.client import TrainingClient

__all__ = ["OwnClient", "OwnClients"]


@final
class OwnClient:
    """One training client: the handle, its actor, its ledger, and who made it. None of it keeps a handle."""

    def __init__(self, *, client: TrainingClient, service: ServiceClient, ref: ActorRef, ledger: Ledger) -> None:
        self._client = weakref.ref(client)
        self._service = weakref.ref(service)
        self.ref = ref
        self.ledger = ledger

    @property
    def client(self) -> TrainingClient | None:
        """The handle; None once it was let go."""
        return self._client()

    @property
    def service(self) -> ServiceClient | None:
        """Who made it; there for as long as the client is."""
        return self._service()

    @property
    def path(self) -> str:
        """Its actor's place in the tree."""
        return self.ref.path

    @property
    def model_id(self) -> str:
        """The server's id of the model as it is now."""
        assert self.ledger.model_id is not None
        return self.ledger.model_id

    @property
    def living(self) -> bool:
        """Whether it takes operations, or will when its model has been rebuilt."""
        return self.ledger.stopped is None and self._client() is not None


@final
class OwnClients:
    """A plain object of the runtime's. ``changed`` counts what has come and gone."""

    def __init__(self) -> None:
        self._clients: dict[str, OwnClient] = {}
        self.changed: AsyncValue[int] = AsyncValue(0)

    def add(self, own: OwnClient) -> None:
        """``own`` has its model."""
        self._clients[own.path] = own
        self.changed.value += 1

    def remove(self, path: str) -> None:
        """The place ``path`` is closed."""
        if self._clients.pop(path, None) is not None:
            self.changed.value += 1

    def at(self, path: str) -> OwnClient | None:
        """The client whose actor stands at ``path``."""
        return self._clients.get(path)

    def of(self, model_id: str) -> OwnClient | None:
        """The client that trains ``model_id`` now."""
        return next((own for own in self._clients.values() if own.model_id == model_id), None)

    def all(self) -> tuple[OwnClient, ...]:
        """Those that are there, the oldest first."""
        return tuple(self._clients.values())
