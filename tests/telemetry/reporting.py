"""One simulated session whose server keeps what it is told, for the tests of telemetry."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import trio

from supervision import SupervisorRef
from supervision.context import Context
from tinker_actors.clients import ServiceClient
from tinker_actors.config import Config
from tinker_actors.local.reports import ReportedEvent
from tinker_actors.telemetry import Telemetry
from tinker_actors.testing.faults import Fault, FaultPlan
from tinker_actors.testing.simulation import Outcome, World, simulate

__all__ = ["SESSION", "Planted", "crash", "names", "report", "reported", "telemetry_of"]

T = TypeVar("T")

SESSION = "runtime/sessions/session-0"


class Planted(Exception):
    """A crash of the test's own."""


def report(
    story: Callable[[World, ServiceClient], Awaitable[T]], *faults: Fault, seed: int = 1, **options: Any
) -> Outcome[T]:
    """Run ``story`` with a fresh session under ``faults``; ``options`` are for the Config."""

    async def scenario(world: World) -> T:
        return await story(world, await world.runtime.create_service_client())

    given: dict[str, Any] = {"base_url": "https://server", "api_key": "tml-test", "environ": {}}
    return simulate(scenario, seed=seed, plan=FaultPlan(faults), config=Config.load(**given | options))


def telemetry_of(service: ServiceClient) -> Telemetry:
    """The session's telemetry, which is on."""
    telemetry = service.get_telemetry()
    assert telemetry is not None
    return telemetry


def reported(world: World, service: ServiceClient) -> tuple[ReportedEvent, ...]:
    """What the server has in its book of the session."""
    return world.service.reports.of(service.session_id)


def names(world: World, service: ServiceClient) -> list[str]:
    """Of each event in the server's book the name, or the kind where it has none."""
    return [str(one.fields.get("event_name", one.kind)) for one in reported(world, service)]


async def crash(world: World, path: str) -> None:
    """Crash the actor at ``path`` as soon as it runs, as a task of its own would."""
    while (node := world.runtime.tree().find(path)) is None or node.state != "running":  # noqa: ASYNC110  # a tree has no event
        await trio.sleep(0.01)
    place = world.runtime.system.root
    *supervisors, name = path.split("/")[1:]
    for supervisor in supervisors:
        place = place.child(supervisor)
        assert isinstance(place, SupervisorRef)
    life = place.child(name).place.life

    async def fail() -> None:
        raise Planted(path)

    assert life is not None
    Context(life).start_task(fail, name="planted")
