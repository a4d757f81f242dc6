"""A Watch over a run: nothing waits in silence, and no gate stays held."""

from __future__ import annotations

from typing import Final, final

import trio

from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.testing.simulation import World

__all__ = ["Watch"]

_EVERY: Final = 5.0  # virtual seconds
_NEW_KEY: Final = "tml-renewed"


@final
class Watch:
    """Looks at what is pending every few virtual seconds, and renews a credential that lanes wait for."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._clients: list[TrainingClient] = []
        self.problems: list[str] = []

    def follow(self, client: TrainingClient) -> None:
        """See to it that each of the client's operations is listed as long as it has no result."""
        self._clients.append(client)

    async def run(self) -> None:
        """Look for ever."""
        while True:
            await trio.sleep(_EVERY)
            rows = self._world.runtime.pending()
            names = {row.name for row in rows}
            self.problems.extend(f"P4: {row} says nothing of why it waits" for row in rows if not row.reason)
            for client in self._clients:
                ledger = client._model.ledger  # noqa: SLF001  # what is pending is compared with it
                for operation in ledger.unfinished():
                    if f"{ledger.name}{operation.name}" not in names:
                        self.problems.append(f"P4: {ledger.name}{operation.name} waits and is not listed")
            if any("halted" in row.reason for row in rows):
                self._world.runtime.renew_api_key(_NEW_KEY)

    def check_gates(self, service: ServiceClient) -> None:
        """Note what is still held of the session's gates when nothing is under way."""
        limits = service._session.limits.statistics()  # noqa: SLF001  # tests of gates look at it, too
        held = (
            limits.training.held,
            limits.results.held,
            limits.sampling.in_flight.held,
            limits.sampling.dispatch.held,
        )
        if any(held):
            self.problems.append(f"P5: {service} holds {held} of its gates, and nothing is under way")
        for client in self._clients:
            admitted = client._model.ledger.admission.statistics()  # noqa: SLF001  # as above
            if admitted.count or admitted.size:
                self.problems.append(f"P5: {client} keeps {admitted} admitted, and nothing is under way")
