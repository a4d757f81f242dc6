"""SimulatedServer: a local service behind an in-memory network, which can suffer what a fault plan has for it."""

from __future__ import annotations

import random as random_module
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import final

import trio

from tinker_actors.local.applied import AppliedOperation
from tinker_actors.local.clock import trio_now
from tinker_actors.local.owners import Owner
from tinker_actors.local.service import LocalService, open_service
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import InlineOffload
from tinker_actors.ports.time_of_day import set_ahead
from tinker_actors.testing.faults import (
    CorruptModels,
    ExpireSessions,
    JumpClock,
    LosePromises,
    PauseQueue,
    RestartServer,
    ServerFault,
    ServerUnderTest,
)
from tinker_actors.testing.kept_storage import KeptStorage
from tinker_actors.testing.network import Network, open_network
from tinker_actors.types import SessionCancelled

__all__ = ["SimulatedServer", "open_simulated_server"]

_PAUSE = "injected-pause"
_EXPIRED = "was silent for too long (injected)"


@final
class SimulatedServer(ServerUnderTest):
    """One server's processes, one after the other, at one address. Made by ``open_simulated_server``."""

    def __init__(self, settings: ServerSettings, restarts: random_module.Random, nursery: trio.Nursery) -> None:
        self._settings = settings
        self._restarts = restarts
        self._nursery = nursery
        self._storage = KeptStorage()
        self._services: list[LocalService] = []
        self._life = trio.CancelScope()
        self._ended = trio.Event()
        self._network: Network | None = None
        self._one_at_a_time = trio.Lock()
        self._ahead = timedelta()

    @property
    def service(self) -> LocalService:
        """The process that runs, or ran last."""
        return self._services[-1]

    @property
    def network(self) -> Network:
        """What stands before it."""
        assert self._network is not None
        return self._network

    def connect(self, network: Network) -> None:
        """Be reached through ``network``."""
        self._network = network

    def applied(self, model_id: str) -> tuple[AppliedOperation, ...]:
        """What took effect on the model, in whichever process it was, in order."""
        return tuple(one for service in self._services for one in service.applied(model_id))

    def log(self) -> tuple[AppliedOperation, ...]:
        """What took effect on any model, process by process and model by model."""
        return tuple(
            one for service in self._services for model_id in service.models for one in service.applied(model_id)
        )

    def applications(self, digest: str) -> int:
        """How often the operation of this digest took effect, on any model."""
        return sum(operation.digest == digest for operation in self.log())

    async def digest(self, model_id: str) -> str | None:
        """The digest of the model's weights; None when its process is over."""
        return await self.service.digest(model_id) if model_id in self.service.models else None

    async def suffer(self, fault: ServerFault) -> None:
        """Let ``fault`` happen now. While another restarts it, wait for that first."""
        async with self._one_at_a_time:
            service = self.service
            match fault:
                case LosePromises():
                    service.futures.lose_all()
                case ExpireSessions():
                    for session in service.sessions.alive():
                        await service.end_session(session, _EXPIRED, SessionCancelled(detail=_EXPIRED), abandon=True)
                case CorruptModels():
                    for model in service.models.values():
                        if model.closed is None and model.in_engine:
                            model.corrupted = f"the weights of {model.model_id} are spoilt (injected)"
                case PauseQueue(seconds=seconds):
                    self._nursery.start_soon(_pause, service, seconds, name="paused queue")
                case JumpClock(seconds=seconds, client=True):
                    set_ahead(seconds)
                case JumpClock(seconds=seconds):
                    self._ahead += timedelta(seconds=seconds)
                case RestartServer():
                    await self._restart(fault)
                case other:
                    raise AssertionError(f"no rule for {other!r}")

    async def _restart(self, fault: RestartServer) -> None:
        self.network.kill()
        if fault.keeps == "memory":
            await trio.sleep(fault.down)
            self.network.replace(self.service.app)
            return
        self._life.cancel(reason="the server dies")
        await self._ended.wait()
        if fault.keeps == "nothing":
            self._storage = KeptStorage()
        await trio.sleep(fault.down)
        seed = self._restarts.getrandbits(64)
        service = await self._nursery.start(self.live, random_module.Random(seed), name="server")
        self.network.replace(service.app)

    def now(self) -> datetime:
        """The server's time of day."""
        return trio_now() + self._ahead

    async def live(
        self, random: random_module.Random, *, task_status: trio.TaskStatus[LocalService] = trio.TASK_STATUS_IGNORED
    ) -> None:
        """One process, until it is killed."""
        self._ended = ended = trio.Event()
        try:
            with trio.CancelScope() as self._life:
                async with open_service(
                    self._settings, offload=InlineOffload(), random=random, storage=self._storage, now=self.now
                ) as service:
                    self._services.append(service)
                    task_status.started(service)
                    await trio.sleep_forever()
        finally:
            ended.set()


async def _pause(service: LocalService, seconds: float) -> None:
    async with service.turns.turn(Owner(_PAUSE), f"at {trio.current_time()}"):  # there is one turn at a time
        await trio.sleep(seconds)


@asynccontextmanager
async def open_simulated_server(
    settings: ServerSettings,
    *,
    random: random_module.Random,
    network: random_module.Random,
    restarts: random_module.Random,
) -> AsyncGenerator[SimulatedServer]:
    """A running server with ``settings``; ``network`` draws the latency, ``restarts`` the seeds of later processes.

    Raises an ExceptionGroup of whatever its application raised (``Network.failures``).
    """
    async with trio.open_nursery() as nursery:
        server = SimulatedServer(settings, restarts, nursery)
        service = await nursery.start(server.live, random, name="server")
        async with open_network(service.app, random=network) as between:
            server.connect(between)
            yield server
        nursery.cancel_scope.cancel(reason="the simulation is over")
