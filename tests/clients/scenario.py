"""One simulated session with one training client on the tiny model, for tests that say what goes wrong in it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from tinker_actors.clients import ServiceClient, TrainingClient
from tinker_actors.config import Config, RecoveryPolicy
from tinker_actors.local import ServerSettings
from tinker_actors.testing.faults import Fault, FaultPlan
from tinker_actors.testing.operations import BASE_MODEL, datum, start_client
from tinker_actors.testing.simulation import Outcome, World, simulate
from tinker_actors.types import Datum

__all__ = ["KEYS", "batch", "train"]

T = TypeVar("T")
KEYS = ("tml-test", "tml-another")
"""One owner's: a runtime may go from one to the other."""


def batch(*seeds: int) -> list[Datum]:
    """A random datum for each seed."""
    return [datum(seed) for seed in seeds]


def train(
    story: Callable[[World, ServiceClient, TrainingClient], Awaitable[T]],
    *faults: Fault,
    settings: ServerSettings | None = None,
    outage_bound: float = 300.0,
    max_pending: int = 1024,
    max_retries: int | None = None,
    recovery: RecoveryPolicy | None = None,
) -> Outcome[T]:
    """Run ``story`` with a fresh client under ``faults``; a lost model is an error without ``recovery``."""

    async def scenario(world: World) -> T:
        service = await world.runtime.create_service_client()
        client = world.watch(await start_client(service))
        return await story(world, service, client)

    return simulate(
        scenario,
        seed=1,
        plan=FaultPlan(faults),
        settings=settings or ServerSettings(base_model=BASE_MODEL, owners={"somebody": KEYS}),
        config=msgspec.structs.replace(
            Config.load(base_url="https://server", api_key="tml-test", environ={}, outage_bound=outage_bound),
            max_pending=max_pending,
            max_retries=max_retries,
            recovery=recovery,
        ),
    )
