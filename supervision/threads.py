"""Work in threads: so many at a time for each place, those that a cancelled handler has left behind included."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar, TypeVarTuple, Unpack

import trio

if TYPE_CHECKING:
    from supervision.actor_place import ActorPlace

__all__: list[str] = []

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_in_thread(
    place: ActorPlace, function: Callable[[Unpack[Ts]], T], args: tuple[*Ts], *, abandon: bool
) -> T:
    """As Context.run_in_thread."""
    limiter = place.limiter
    if limiter is None:
        # The place's, not the incarnation's: a thread that outlives its incarnation counts until it has ended.
        limiter = place.limiter = trio.CapacityLimiter(place.spec.threads)
    name = f"{place.path}#{place.number}"
    return await trio.to_thread.run_sync(
        function, *args, thread_name=name, abandon_on_cancel=abandon, limiter=limiter
    )


def threads_of(place: ActorPlace) -> int:
    """How many are at work for it."""
    return 0 if place.limiter is None else int(place.limiter.borrowed_tokens)
