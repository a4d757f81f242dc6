"""What an actor knows of itself: its address, and what it may do only while it lives."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVarTuple, Unpack, final

from supervision.reply import Reply
from supervision.tasks import ActorTask
from supervision.timers import Timer

if TYPE_CHECKING:
    from supervision.incarnation import Incarnation
    from supervision.monitor import Monitor
    from supervision.ref import ActorRef, SupervisorRef
    from supervision.system import ActorSystem

__all__ = ["Context"]

Ts = TypeVarTuple("Ts")


@final
class Context:
    """`self.context` in an actor; one per incarnation."""

    __slots__ = ("_life",)

    def __init__(self, life: Incarnation) -> None:
        self._life = life

    @property
    def ref(self) -> ActorRef:
        """The actor's own address; it outlives this incarnation."""
        return self._life.place.ref

    @property
    def name(self) -> str:
        """The child's name."""
        return self._life.place.name

    @property
    def path(self) -> str:
        """Names from the system down, joined by '/'."""
        return self._life.place.path

    @property
    def incarnation(self) -> int:
        """1 for the first, counted up with each restart."""
        return self._life.number

    @property
    def system(self) -> ActorSystem:
        """The system this actor lives in."""
        return self._life.place.system.facade

    @property
    def supervisor(self) -> SupervisorRef:
        """The actor's supervisor: for siblings."""
        return self._life.place.parent.ref

    @property
    def random(self) -> random.Random:
        """A generator of this incarnation's own, seeded from the system's."""
        return self._life.random

    def start_task(
        self, function: Callable[[Unpack[Ts]], Awaitable[object]], *args: *Ts, name: str | None = None
    ) -> ActorTask:
        """Run `function(*args)` in a task that dies with this incarnation and whose crash is the actor's.

        Such tasks are cancelled, and have ended, before terminate() runs. Raises ActorStopped once the incarnation
        is ending.
        """
        return self._life.start_task(function, args, name)

    def defer_reply(self) -> Reply[Any]:
        """Take over the reply of the call in hand; the handler's return value counts no more. Raises NotInCall."""
        return self._life.defer_reply()

    def send_after(self, delay: float, message: object) -> Timer:
        """Cast `message` to oneself after `delay` seconds. A timer never reaches a later incarnation; if the
        mailbox is full then, the message is reported as undelivered. Raises UnknownMessage, InvalidSpec.
        """
        return self._life.send_after(delay, message)

    def monitor(self, ref: ActorRef) -> Monitor:
        """Get a Down message when the other's present incarnation (or, while it restarts, the next one) has ended;
        at once if there is and will be none. Raises UnknownMessage if this actor has no @handles(Down).
        """
        return self._life.monitor(ref)

    def register(self, name: str) -> None:
        """Give this place a name in the system's registry, until it closes. Idempotent. Raises NameTaken."""
        self._life.place.system.registry.register(name, self._life.place.ref)

    def stop(self) -> None:
        """End by one's own will (reason "normal") when the present handler has returned."""
        self._life.stop_self()

    def __repr__(self) -> str:
        return f"<Context {self.path}#{self.incarnation}>"
