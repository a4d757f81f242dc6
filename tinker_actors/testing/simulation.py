"""Whole runs in simulation: runtime, network and local server in one trio program under a virtual clock.

A seed and a fault plan fix everything: scheduling, latency, ids, jitter. No thread, socket, file or wall clock is in
play (the disk is simulated, too), so simulated hours take seconds and a run that failed once fails again.
"""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar, cast, final

import msgspec
import trio

from supervision import Event
from supervision.testing import run_seeded
from tinker_actors.clients import TrainingClient
from tinker_actors.config import Config
from tinker_actors.errors import InvalidInput
from tinker_actors.flow.pending import Pending
from tinker_actors.ledger import UNDECIDED, AcceptedOperation, OperationState
from tinker_actors.local.applied import AppliedOperation
from tinker_actors.local.service import LocalService
from tinker_actors.local.settings import ServerSettings
from tinker_actors.ports import InlineOffload, Request, Response, Transport
from tinker_actors.runtime import Runtime, open_runtime
from tinker_actors.testing.disk import SimulatedDisk
from tinker_actors.testing.faults import (
    DiskFault,
    Fault,
    FaultPlan,
    FaultyTransport,
    Fired,
    PlannedDisk,
    PlannedPoints,
    PlannedSteps,
)
from tinker_actors.testing.network import Network
from tinker_actors.testing.simulated_server import SimulatedServer, open_simulated_server

__all__ = ["ModelOutcome", "Outcome", "World", "simulate"]

T = TypeVar("T")

_TURNS = 100_000  # of the loop without any time passing: no run needs a tenth of them
_SETTLED_WITHIN = 3600.0  # virtual seconds: far above every bound of the client


class ModelOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one watched client's model: what was accepted, what the server applied, its weights' digest.

    The digest is "" of a model whose server has died, and that no other has replaced.
    """

    model_id: str
    accepted: tuple[AcceptedOperation, ...]
    applied: tuple[AppliedOperation, ...]
    digest: str


class Outcome(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One simulated run: what the scenario returned, its models, and what happened on the way.

    ``left`` names what was still there an hour after the runtime was left; ``seconds`` is virtual time.
    """

    value: T
    models: tuple[ModelOutcome, ...]
    events: tuple[Event, ...]
    fired: tuple[Fired, ...]
    reached: dict[str, int]
    counters: dict[str, int]
    left: tuple[str, ...]
    seconds: float


@final
class World:
    """What a scenario works in."""

    def __init__(
        self,
        runtime: Runtime,
        server: SimulatedServer,
        transport: FaultyTransport,
        points: PlannedPoints,
        *,
        disk: SimulatedDisk,
    ) -> None:
        self.runtime = runtime
        self.server = server
        self.transport = transport
        self.points = points
        self.disk = disk
        self._watched: list[TrainingClient] = []
        self._calls: dict[trio.CancelScope, str] = {}

    @property
    def service(self) -> LocalService:
        """The server's process that runs now."""
        return self.server.service

    @property
    def network(self) -> Network:
        """Between client and server."""
        return self.server.network

    @contextmanager
    def calling(self, name: str) -> Generator[trio.CancelScope]:
        """Call or wait within this block where the plan's CancelCaller may cancel it; the scope tells if it has."""
        with trio.CancelScope() as scope:
            self._calls[scope] = name
            try:
                yield scope
            finally:
                self._calls.pop(scope, None)

    def cancel_caller(self) -> str | None:
        """Cancel the call that has lasted longest; its name, None when nobody calls."""
        scope = next(iter(self._calls), None)
        if scope is None:
            return None
        scope.cancel(reason="injected")
        return self._calls.pop(scope)

    def watch(self, client: TrainingClient) -> TrainingClient:
        """Report ``client``'s model in the outcome."""
        self._watched.append(client)
        return client

    async def settle(self) -> None:
        """Wait until nothing is under way; AssertionError, with the list, when that is not so within an hour."""
        pause = 0.1
        with trio.move_on_after(_SETTLED_WITHIN):
            while self._under_way():  # the table has no event
                await trio.sleep(pause)
                pause = min(2.0 * pause, 5.0)
        left = self._under_way()
        assert not left, "\n".join(("still under way after an hour:", *map(str, left)))

    def _under_way(self) -> list[Pending]:
        """What waits, but for what waits for a decision of the scenario's, which has come to its end."""
        return [row for row in self.runtime.pending() if row.state not in (UNDECIDED, OperationState.VERDICT)]

    async def models(self) -> tuple[ModelOutcome, ...]:
        """The watched models now."""
        return tuple([await self._model(client) for client in self._watched])

    async def _model(self, client: TrainingClient) -> ModelOutcome:
        return ModelOutcome(
            model_id=client.model_id,
            accepted=client.accepted,
            applied=self.server.applied(client.model_id),
            digest=await self.server.digest(client.model_id) or "",
        )


def simulate(
    scenario: Callable[[World], Awaitable[T]],
    *,
    seed: int,
    plan: FaultPlan | None = None,
    settings: ServerSettings | None = None,
    config: Config | None = None,
    disk: SimulatedDisk | None = None,
    instruments: Sequence[trio.abc.Instrument] = (),
    limit: float = 100_000.0,
) -> Outcome[T]:
    """Run ``scenario`` to its end, wait until nothing is under way any more, and tell what happened.

    ``disk`` is one that an earlier run has left, by its ``die()``; by default an empty one. Where the plan kills the
    process, ``scenario`` begins anew in another one, with the same server and what is left on the disk.
    What the scenario raises comes out with a note that says how to run it again. Raises AssertionError when
    something is still under way an hour after the scenario's end, VirtualHang when it has not ended after ``limit``
    virtual seconds, InvalidInput for a plan that is none.
    """
    faults = plan if plan is not None else FaultPlan()
    if not isinstance(faults, FaultPlan):  # pyright: ignore[reportUnnecessaryIsInstance]  # no type checker at work
        raise InvalidInput("plan", f"is of type {type(faults).__name__}", "Give FaultPlan((DropAfter(...), ...))")
    steps = PlannedSteps(faults)
    try:
        return run_seeded(
            partial(
                _simulate, scenario, seed=seed, plan=faults, settings=settings, config=config, disk=disk, steps=steps
            ),
            seed=seed,
            limit=limit,
            turns=_TURNS,
            instruments=[*instruments, steps],
        )
    except BaseException as error:
        error.add_note(f"to run it again: seed={seed}, plan={faults!r}")
        raise


async def _simulate(
    scenario: Callable[[World], Awaitable[T]],
    *,
    seed: int,
    plan: FaultPlan,
    settings: ServerSettings | None,
    config: Config | None,
    disk: SimulatedDisk | None,
    steps: PlannedSteps,
) -> Outcome[T]:
    rng = random.Random(seed)
    points = PlannedPoints(plan)
    if disk is None:
        disk = SimulatedDisk(random=random.Random(f"disk {seed}"))
    events: list[Event] = []
    value: T | None = None
    models: tuple[ModelOutcome, ...] = ()
    failure: Exception | None = None
    left: tuple[str, ...] = ()
    counters: dict[str, int] = {}
    runtime: Runtime | None = None
    disk_faults = tuple(fault for fault in plan.faults if isinstance(fault, DiskFault))
    disk_fired: list[Fired] = []

    def told(fault: DiskFault, subject: str, attempt: int) -> None:
        at = trio.current_time()
        disk_fired.append(Fired(fault=cast("Fault", fault), subject=subject, at=at, attempt=attempt))

    async with (
        open_simulated_server(
            settings if settings is not None else ServerSettings(base_model="tinker-actors/tiny"),
            random=random.Random(rng.getrandbits(64)),
            network=random.Random(rng.getrandbits(64)),
            restarts=random.Random(f"restarts {seed}"),
        ) as server,
        trio.open_nursery() as late,
    ):
        transport = FaultyTransport(server.network.transport(), plan, nursery=late, server=server)
        planned = PlannedDisk(disk_faults, told, disk.fault)
        disk.fault, disk.death = planned, planned.dies
        while True:
            wire, lived = _Wire(transport), disk
            with trio.CancelScope() as process:

                def kill(
                    torn: Path | None = None,
                    lost: Path | None = None,
                    *,
                    wire: _Wire = wire,
                    lived: SimulatedDisk = lived,
                    process: trio.CancelScope = process,
                ) -> str:
                    nonlocal disk
                    wire.dead, planned.kill = True, None
                    disk = lived.die(torn=torn, lost=lost)
                    process.cancel(reason="SIGKILL")
                    return "the runtime"

                try:
                    async with open_runtime(
                        config=config
                        if config is not None
                        else Config.load(base_url="https://server", api_key="tml-test", environ={}),
                        transport=wire,
                        seed=rng.getrandbits(32),
                        points=points,
                        offload=InlineOffload(),
                        disk=lived,
                    ) as runtime:
                        with runtime.system.events.subscribe(events.append):
                            world = World(runtime, server, transport, points, disk=lived)
                            try:
                                steps.begin(runtime.system.root, world.cancel_caller, kill)
                                planned.kill = kill
                                value = await scenario(world)
                                steps.end()
                                planned.kill = None
                                await world.settle()
                            except Exception as error:  # noqa: BLE001  # raised below, free of the nurseries' groups
                                failure = error
                            else:
                                models = await world.models()
                            counters = runtime.counters()
                except Exception:
                    if not wire.dead:
                        raise
            if not wire.dead:
                break
            failure = None  # nobody has seen what the dead one ended with
        # requests that are still on their way belong to nobody any more
        late.cancel_scope.cancel(reason="the simulation is over")
        if failure is None:
            assert runtime is not None
            left = await _left(runtime, server.network)
    if failure is not None:
        raise failure
    return Outcome(
        value=cast("T", value),
        models=models,
        events=tuple(events),
        fired=(*transport.fired, *points.fired, *steps.fired, *disk_fired),
        reached=dict(points.reached),
        counters=counters,
        left=left,
        seconds=trio.current_time(),
    )


@final
class _Wire(Transport):
    """The connections of one process, which its death cuts."""

    def __init__(self, inner: Transport) -> None:
        self._inner = inner
        self.dead = False

    async def send(self, request: Request) -> Response:
        if self.dead:
            await trio.sleep_forever()
        return await self._inner.send(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _left(runtime: Runtime, network: Network) -> tuple[str, ...]:
    """What outlives the runtime although it should not."""
    with trio.move_on_after(_SETTLED_WITHIN):
        while network.statistics().open:  # noqa: ASYNC110  # as above; polls may be held a while
            await trio.sleep(1.0)
    statistics = runtime.system.statistics()
    counts = {
        "actors": statistics.actors,
        "timers": statistics.timers,
        "registered names": statistics.names,
        "rows of what is pending": len(runtime.pending()),
        "open exchanges": network.statistics().open,
    }
    return tuple(f"{count} {what}" for what, count in counts.items() if count)
